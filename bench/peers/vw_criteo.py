"""Vowpal Wabbit against `millstream train --stream` on the Criteo sample: progressive log-loss and rows per second.

    python bench/peers/vw_criteo.py ROOT [--rounds N] [--times K] [--no-pairs]

ROOT is the folder that holds `criteo_dac80k/train.tsv.gz`. Needs `pip install vowpalwabbit==9.11.9`; scikit-learn's
SGDClassifier is run beside them where it is installed.

Both learn each row right after predicting it, from plain text, in file order, on 2 threads (VW parses on one and learns on
the other). VW gets its own format, `label | I1=5 C1=68fd1e64 ...` without the empty cells, once with the integers as they
are and once in the buckets that our recipes give them, floor(log2(1 + |x|)); ours gets the TSV. Files are written to a temporary
folder and read once before the first round. Seconds are those between opening the file and the last row learned, without
starting Python, compiling, or saving. Each contestant's best of N interleaved rounds counts; user and system seconds are
of the whole process.
"""

import argparse
import gzip
import json
import math
import re
import sys
import tempfile
from pathlib import Path

import peer

NAMES = [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]
RECIPES = peer.REPOSITORY / "recipes"

# VW's settings: adaptive SGD as it comes, FTRL-Proximal as tuned on this file, and all pairs of features, tuned likewise.
VW = {
    "vw sgd": "-b 22",
    "vw ftrl": "-b 22 --ftrl --ftrl_alpha 0.1 --ftrl_beta 1",
    "vw all pairs": "-b 24 -q :: -l 0.1",
    "vw all pairs ftrl": "-b 24 -q :: --ftrl --ftrl_alpha 0.01 --ftrl_beta 1",
}

VW_CHILD = """
import json, sys, time
import vowpalwabbit
start = time.perf_counter()
vw = vowpalwabbit.Workspace(sys.argv[1] + " --loss_function logistic --quiet -d " + sys.argv[2])
seconds = time.perf_counter() - start
rows = vw.get_weighted_examples()
print(json.dumps({"logloss": vw.get_sum_loss() / rows, "rows": rows, "seconds": seconds}))
"""

SKLEARN_CHILD = """
import json, sys, time
import numpy as np
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier
start = time.perf_counter()
model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.02, alpha=1e-7)
hasher = FeatureHasher(1 << 22, input_type="string", alternate_sign=False)
loss, rows = 0.0, 0
def learn(lines):
    global loss, rows
    y = np.array([line[0] == "1" for line in lines], dtype=np.int32)
    x = hasher.transform(line.split(" ")[2:] for line in lines)
    if rows:
        p = np.clip(model.predict_proba(x)[:, 1], 1e-7, 1 - 1e-7)
        loss -= np.log(np.where(y == 1, p, 1 - p)).sum()
    else:
        loss += np.log(2) * len(y)
    model.partial_fit(x, y, classes=[0, 1])
    rows += len(y)
with open(sys.argv[1]) as f:
    block = []
    for line in f:
        block.append(line.rstrip("\\n"))
        if len(block) == 100:
            learn(block)
            block = []
    if block:
        learn(block)
print(json.dumps({"logloss": loss / rows, "rows": rows, "seconds": time.perf_counter() - start}))
"""


def bucket(cell):
    """The cell of an integer as our recipes see it."""
    x = int(cell)
    return f"{'-' if x < 0 else ''}{math.floor(math.log2(1 + abs(x)))}"


def write_files(source, folder, times):
    """TSV and VW's text, once and `times` over; gives the number of rows."""
    rows = 0
    with gzip.open(source, "rt") as lines, open(folder / "1.tsv", "w") as tsv, open(folder / "1.raw.vw", "w") as raw, open(
        folder / "1.vw", "w"
    ) as binned:
        for line in lines:
            tsv.write(line)
            label, *cells = line.rstrip("\n").split("\t")
            label = "1" if label == "1" else "-1"
            filled = [(name, cell) for name, cell in zip(NAMES, cells) if cell]
            raw.write(f"{label} | {' '.join(f'{n}={c}' for n, c in filled)}\n")
            filled = [(name, bucket(cell) if name[0] == "I" else cell) for name, cell in filled]
            binned.write(f"{label} | {' '.join(f'{n}={c}' for n, c in filled)}\n")
            rows += 1
    for name in ["tsv", "raw.vw", "vw"]:
        text = (folder / f"1.{name}").read_bytes()
        with open(folder / f"{times}.{name}", "wb") as out:
            for _ in range(times):
                out.write(text)
    return rows


def write_recipes(folder, times):
    """Our recipes, reading the plain text."""
    for name in ["lr_ftrl", "fm", "ffm"]:
        text = (RECIPES / f"criteo80k_{name}.toml").read_text()
        for n in {1, times}:
            plain = re.sub(r'folder = "[^"]*"', 'folder = "."', text).replace("train.tsv.gz", f"{n}.tsv")
            (folder / f"{name}.{n}.toml").write_text(plain)


def ours(folder, recipe):
    def run():
        with tempfile.TemporaryDirectory(dir=folder) as out:
            command = [peer.target("millstream"), "train", folder / recipe, "--stream", "--data", folder]
            found, used = peer.child([*command, "--out", out, "--threads", "2", "--json"])
        sparsity = found.get("sparsity", {})
        return {
            "logloss": found["metrics"]["logloss"],
            "rows_s": found["rows"] / (found["train_seconds"] - found["saving_seconds"]),
            "cpu_us": 1e6 * (used["user_s"] + used["system_s"]) / found["rows"],
            "peak_mib": used["peak_mib"],
            "zeros": sparsity.get("share", 0.0),
        }

    return run


def theirs(child, *arguments):
    def run():
        found, used = peer.child([sys.executable, "-c", child, *map(str, arguments)])
        return {
            "logloss": found["logloss"],
            "rows_s": found["rows"] / found["seconds"],
            "cpu_us": 1e6 * (used["user_s"] + used["system_s"]) / found["rows"],
            "peak_mib": used["peak_mib"],
        }

    return run


def best(contestants, rounds):
    """The quickest of interleaved rounds, by name."""
    runs = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, run in contestants.items():
            result = run()
            runs[name].append(result)
            print(f"# round {turn + 1}: {name}: {peer.brief(result)}", file=sys.stderr, flush=True)
    return {name: max(rows, key=lambda r: r["rows_s"]) for name, rows in runs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=10, help="size of the larger file")
    parser.add_argument("--no-pairs", action="store_true", help="leave out VW's all pairs, the slowest")
    options = parser.parse_args()
    peer.build("-p", "millstream-cli")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = write_files(options.root / "criteo_dac80k/train.tsv.gz", folder, options.times)
        write_recipes(folder, options.times)
        large = f"x{options.times}"
        settings = {k: v for k, v in VW.items() if not (options.no_pairs and "pairs" in k)}
        contestants = {f"{k}, integers": theirs(VW_CHILD, v, folder / "1.raw.vw") for k, v in settings.items()}
        contestants |= {k: theirs(VW_CHILD, v, folder / "1.vw") for k, v in settings.items()}
        contestants |= {n: ours(folder, f"{n}.1.toml") for n in ["lr_ftrl", "fm", "ffm"]}
        for name in ["vw sgd", "vw ftrl"]:
            contestants[f"{name} {large}"] = theirs(VW_CHILD, VW[name], folder / f"{options.times}.vw")
        contestants |= {f"{n} {large}": ours(folder, f"{n}.{options.times}.toml") for n in ["lr_ftrl", "ffm"]}
        results = best(contestants, options.rounds)
        try:
            results |= best({"sklearn sgd": theirs(SKLEARN_CHILD, folder / "1.vw")}, 1)
        except SystemExit as missing:
            print(f"# sklearn left out: {str(missing).splitlines()[-1][:120]}", file=sys.stderr)
    print(f"{rows:,} rows, and {options.times} times as many")
    columns = {"logloss": ".4f", "rows_s": ",.0f", "cpu_us": ".2f", "peak_mib": ",.0f", "zeros": ".3f"}
    peer.table(results, columns)
    rate = {name: row["rows_s"] for name, row in results.items()}
    quickest = lambda names: max(rate[n] for n in names if n in rate)
    ratios = {
        "lr": rate["lr_ftrl"] / quickest(["vw sgd", "vw ftrl"]),
        f"lr {large}": rate[f"lr_ftrl {large}"] / quickest([f"vw sgd {large}", f"vw ftrl {large}"]),
    }
    if not options.no_pairs:
        ratios["ffm to all pairs"] = rate["ffm"] / quickest(["vw all pairs", "vw all pairs ftrl"])
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times the rows/s of VW")
    peer.finish("vw_criteo", results, ratios)


if __name__ == "__main__":
    main()
