"""Two tasks on Census-Income: torch-rechub's SharedBottom, MMOE and PLE on the very rows, split and sizes of our recipes.

    python bench/peers/census_multitask.py ROOT [--seeds N] [--quick]

Reads `recipes/census_*.toml` for columns, features, layers, batch and learning rate, draws the same 8:1:1 split (xxh3 of the row
number), takes the epoch with the best mean AUC of both tasks on valid, and reports test once per seed. What differs from ours and
is torch-rechub's own: batch normalisation after every linear layer (in the gates too), numbers enter as they are instead of by an
embedding, losses are summed by its `bce` of probabilities. Trained here by a plain loop with Adam; the library's own trainer
evaluates and writes files in between.
"""

import argparse
import gzip
import json
import math
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
import xxhash
from sklearn.metrics import log_loss, roc_auc_score
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models.multi_task import MMOE, PLE, SharedBottom

import peer

MODELS = ["shared_bottom", "mmoe", "ple"]


def recipe(name):
    return tomllib.loads((peer.REPOSITORY / "recipes" / f"census_{name}.toml").read_text())


def part(row, split, seed=1):
    """0 train, 1 valid, 2 test: RatioSplit of crates/data/src/split.rs."""
    draw = (xxhash.xxh3_64_intdigest(row.to_bytes(8, "little"), seed) >> 11) / (1 << 53)
    return 2 if draw < split["test"] else 1 if draw < split["test"] + split["valid"] else 0


def read(root, config):
    """Features by name (codes or numbers), labels [N, T] and the part of each row."""
    table = config["dataset"]["table"]
    path = Path(root) / config["dataset"]["folder"] / table["all"][0]
    with gzip.open(path, "rt") as lines:
        rows = [[cell.strip() for cell in line.rstrip("\n").split(table["delimiter"])] for line in lines]
    at = {name: i for i, name in enumerate(table["columns"])}
    parts = np.array([part(i, config["split"], config["split"].get("seed", 1)) for i in range(len(rows))])
    labels = np.stack([[row[at[t["column"]]] in t["positive"] for row in rows] for t in config["task"]], 1).astype("f4")
    train, columns, features = parts == 0, {}, []
    for feature in config["feature"]:
        cells = np.array([row[at[feature["name"]]] for row in rows])
        if feature["kind"] == "numeric":
            x = cells.astype("f4")
            if feature.get("transform") == "log":
                x = np.sign(x) * np.log1p(np.abs(x))
            else:
                x = (x - x[train].mean()) / max(x[train].std(), 1e-6)
            columns[feature["name"]] = torch.from_numpy(x.astype("f4"))
            features.append(DenseFeature(feature["name"]))
        else:
            known = {cell: i + 1 for i, cell in enumerate(sorted(set(cells[train])))}
            columns[feature["name"]] = torch.tensor([known.get(cell, 0) for cell in cells])
            features.append(SparseFeature(feature["name"], len(known) + 1, embed_dim=config["model"]["embedding"]))
    return columns, features, torch.from_numpy(labels), torch.from_numpy(parts)


def build(name, features, model, tasks):
    layers = {"dims": model["hidden"], "activation": "relu", "dropout": model.get("dropout", 0.0)}
    towers = [{**layers, "dims": model["tower_hidden"]} for _ in range(tasks)]
    kinds = ["classification"] * tasks
    if name == "shared_bottom":
        return SharedBottom(features, kinds, layers, towers)
    if name == "mmoe":
        return MMOE(features, kinds, model["experts"], layers, towers)
    return PLE(features, kinds, model["layers"], model["task_experts"], model["shared_experts"], layers, towers)


def scores(model, x, rows):
    model.eval()
    with torch.inference_mode():
        return torch.cat([model({k: v[r] for k, v in x.items()}) for r in rows.split(8192)]).numpy()


def figures(y, p):
    return [(roc_auc_score(y[:, t], p[:, t]), log_loss(y[:, t], p[:, t])) for t in range(y.shape[1])]


def run(name, config, data, seed):
    """Test AUC and log-loss of each task at the best epoch on valid, and that epoch's mean valid AUC."""
    columns, features, labels, parts = data
    rows = [torch.nonzero(parts == p).flatten() for p in range(3)]
    torch.manual_seed(seed)
    for feature in features:  # a feature keeps the table that it made for the model before
        feature.__dict__.pop("embed", None)
    model, training = build(name, features, config["model"], labels.shape[1]), config["training"]
    adam = torch.optim.Adam(model.parameters(), lr=training["dense"]["learning_rate"])
    best, since, test = -1.0, 0, None
    for epoch in range(training["epochs"]):
        model.train()
        for batch in rows[0][torch.randperm(len(rows[0]))].split(training["batch_size"]):
            p = model({k: v[batch] for k, v in columns.items()})
            loss = sum(torch.nn.functional.binary_cross_entropy(p[:, t], labels[batch, t]) for t in range(p.shape[1]))
            adam.zero_grad()
            loss.backward()
            adam.step()
        valid = figures(labels[rows[1]].numpy(), scores(model, columns, rows[1]))
        mean = sum(auc for auc, _ in valid) / len(valid)
        if mean > best:
            best, since, test = mean, 0, figures(labels[rows[2]].numpy(), scores(model, columns, rows[2]))
        else:
            since += 1
            if since >= training["patience"]:
                break
    return {"valid": best, "test": test, "epochs": epoch + 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs")
    args = parser.parse_args()
    torch.set_num_threads(2)
    results = {}
    for name in MODELS:
        config = recipe(name)
        if args.quick:
            config["training"]["epochs"] = 2
        data, started, found = read(args.root, config), time.perf_counter(), []
        for seed in range(1 if args.quick else args.seeds):
            found.append(run(name, config, data, config["training"]["seed"] + seed))
            print(f"# {name} seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
        row = {"valid mean auc": float(np.mean([f["valid"] for f in found]))}
        for t, task in enumerate(config["task"]):
            for m, metric in enumerate(["auc", "logloss"]):
                values = [f["test"][t][m] for f in found]
                row[f"{task['name']} {metric}"] = float(np.mean(values))
                row[f"{task['name']} {metric} sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        results[name] = row | {"seconds": time.perf_counter() - started}
    peer.table(results, {k: ".5f" for k in next(iter(results.values()))})
    print(json.dumps({"bench": "census_multitask", "results": results}))


if __name__ == "__main__":
    main()
