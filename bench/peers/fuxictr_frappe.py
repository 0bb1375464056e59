"""FuxiCTR's own DeepFM loop on Frappe_x1 against the recipe `frappe_deepfm`, from the files to the final epoch.

    python bench/peers/fuxictr_frappe.py ROOT [--quick] [--rounds N]

ROOT is the folder that holds `frappe_x1/{train,valid,test}.csv.gz`. Both sides use the BARS settings: embedding 10,
tower 400-400-400 with batch normalisation and dropout 0.2, Adam 1e-3, batches of 4,096, embedding L2 0.05 (FuxiCTR's),
the best epoch by validation AUC, two epochs of patience. Rows per second count training rows times epochs, over the seconds of
reading, training and validation ("loop"), and over everything from the gzipped files to the test figures ("all").
FuxiCTR reads its batches with its parquet loader or its npz loader; both are tried once and the quicker one counts.
"""

import argparse
import gzip
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import peer

FIELDS = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
TRAIN_ROWS = 202_027


def unzip(root, folder):
    for part in ("train", "valid", "test"):
        with gzip.open(Path(root) / "frappe_x1" / f"{part}.csv.gz") as src, open(folder / f"{part}.csv", "wb") as out:
            shutil.copyfileobj(src, out)


def deepfm(feature_map, folder, regularizer):
    """DeepFM as in FuxiCTR's model zoo, of FuxiCTR's own layers on FuxiCTR's own training loop."""
    import torch
    from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    class DeepFM(BaseModel):
        def __init__(self):
            super().__init__(
                feature_map, model_id="deepfm", gpu=-1, monitor={"AUC": 1, "logloss": -1}, verbose=0,
                model_root=str(folder), metrics=["AUC", "logloss"], embedding_regularizer=regularizer,
                net_regularizer=None,
            )
            self.embedding_layer = FeatureEmbedding(feature_map, 10)
            self.fm = FactorizationMachine(feature_map)
            self.mlp = MLP_Block(
                input_dim=10 * len(FIELDS), output_dim=1, hidden_units=[400, 400, 400], hidden_activations="ReLU",
                output_activation=None, dropout_rates=0.2, batch_norm=True,
            )
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()
            self.model_to_device()

        def forward(self, inputs):
            x = self.get_inputs(inputs)
            v = self.embedding_layer(x)
            return {"y_pred": self.output_activation(self.fm(x, v) + self.mlp(v.flatten(start_dim=1)))}

    os.makedirs(folder / "frappe", exist_ok=True)
    torch.set_num_threads(2)
    return DeepFM()


def to_npz(parquet, feature_map):
    """The encoded table for FuxiCTR's npz loader."""
    import numpy as np
    import pandas as pd

    frame = pd.read_parquet(parquet)
    path = parquet.replace(".parquet", ".npz")
    np.savez(path, **{c: frame[c].to_numpy() for c in frame.columns})
    return path


def fuxictr(root, epochs, loader):
    """One run in this process; prints a line of JSON."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="peer") as name:
        folder = Path(name)
        unzip(root, folder)
        from fuxictr.preprocess import FeatureProcessor, build_dataset
        from fuxictr.pytorch.dataloaders import RankDataLoader
        from fuxictr.pytorch.torch_utils import seed_everything
        from fuxictr.features import FeatureMap

        seed_everything(2024)
        columns = [{"name": FIELDS, "active": True, "dtype": "str", "type": "categorical"}]
        processor = FeatureProcessor(columns, {"name": "label", "dtype": "float"}, "frappe", name)
        train, valid, test = build_dataset(
            processor, str(folder / "train.csv"), str(folder / "valid.csv"), str(folder / "test.csv"), min_categr_count=1
        )
        feature_map = FeatureMap("frappe", str(folder / "frappe"))
        feature_map.load(str(folder / "frappe" / "feature_map.json"), {})
        if loader == "npz":
            train, valid, test = (to_npz(p, feature_map) for p in (train, valid, test))
        data = dict(batch_size=4096, data_format=loader, num_workers=1)
        model = deepfm(feature_map, folder, 0.05)
        loop = time.perf_counter()
        used = os.times().user
        train_gen, valid_gen = RankDataLoader(
            feature_map, stage="train", train_data=train, valid_data=valid, shuffle=True, **data
        )
        model.fit(train_gen, validation_data=valid_gen, epochs=epochs)
        ended = time.perf_counter()
        used = os.times().user - used
        done = model._epoch_index + 1
        test_gen = RankDataLoader(feature_map, stage="test", test_data=test, shuffle=False, **data)
        metrics = model.evaluate(test_gen)
        rows = TRAIN_ROWS * done
        print(json.dumps({
            "epochs": done, "loop_rows_s": rows / (ended - loop), "all_rows_s": rows / (time.perf_counter() - started),
            "user_us_row": 1e6 * used / rows, "test_auc": metrics["AUC"], "test_logloss": metrics["logloss"],
        }), flush=True)
        os._exit(0)  # Ray's background processes are not waited for.


def millstream(root, epochs):
    """Prepares, trains and measures on the test split: what `recipe run` does, in three commands so that each reports."""
    binary = str(peer.target("millstream"))
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        started = time.perf_counter()
        prepared, run = f"{folder}/prepared", f"{folder}/run"
        common = ["--json", "--quiet"]
        peer.child([binary, "data", "prepare", "frappe_deepfm", "--data", root, "--out", prepared, *common])
        train = [binary, "train", "frappe_deepfm", "--prepared", prepared, "--out", run, *common]
        trained, usage = peer.child(train + (["--epochs", str(epochs)] if epochs else []))
        test, _ = peer.child([binary, "eval", "frappe_deepfm", "--prepared", prepared, "--run", run, "--split", "test", *common])
        seconds = time.perf_counter() - started
    loop = trained["train_seconds"] + trained["evaluate_seconds"]
    metrics = test.get("metrics", test)
    return {
        "epochs": len(trained["evaluations"]), "loop_rows_s": trained["rows"] / loop,
        "all_rows_s": trained["rows"] / seconds, "user_us_row": 1e6 * usage["user_s"] / trained["rows"],
        "peak_mib": usage["peak_mib"], "test_auc": metrics["auc"], "test_logloss": metrics["logloss"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--quick", action="store_true", help="two epochs, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", choices=["parquet", "npz"], help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return fuxictr(args.root, args.epochs, args.inside)
    peer.build("-p", "millstream-cli")
    epochs = 2 if args.quick else 0
    preload = peer.jemalloc()

    def theirs(loader):
        command = [sys.executable, __file__, args.root, "--inside", loader, "--epochs", str(epochs or 16)]
        found, usage = peer.child(command, preload=preload)
        return found | {"peak_mib": usage["peak_mib"]}

    contestants = {
        "millstream": lambda: millstream(args.root, epochs),
        "fuxictr (parquet)": lambda: theirs("parquet"),
        "fuxictr (npz)": lambda: theirs("npz"),
    }
    results = peer.interleave(contestants, 1 if args.quick else args.rounds)
    columns = {"epochs": ".0f", "loop_rows_s": ",.0f", "all_rows_s": ",.0f", "user_us_row": ".1f", "peak_mib": ".0f",
               "test_auc": ".4f", "test_logloss": ".4f"}
    peer.table(results, columns)
    best = max((n for n in results if n.startswith("fuxictr")), key=lambda n: results[n]["loop_rows_s"])
    of = lambda key: results["millstream"][key] / results[best][key]
    peer.finish("fuxictr_frappe", results, {"loop": of("loop_rows_s"), "all": of("all_rows_s"),
                                            "auc_difference": results["millstream"]["test_auc"] - results[best]["test_auc"]})


if __name__ == "__main__":
    main()
