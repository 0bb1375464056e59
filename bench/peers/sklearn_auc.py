"""scikit-learn's roc_auc_score against `millstream_train::metrics::auc` on the same ten million scores.

    python bench/peers/sklearn_auc.py [--count N] [--rounds N]

Builds and runs the example `auc_speed` in release mode, which writes scores and labels into a temporary folder, then times
scikit-learn on them. Both are the best of their rounds, interleaved by process: the machine should be quiet. The last line is
JSON with both seconds, their ratio and the difference of the two areas. Needs numpy and scikit-learn 1.9.1.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import roc_auc_score

REPOSITORY = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    example = ["-p", "millstream-train", "--example", "auc_speed"]
    subprocess.run(["cargo", "build", "--release", *example], cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    program = target / "release" / "examples" / "auc_speed"
    with tempfile.TemporaryDirectory() as folder:
        ours = run(program, options.count, folder)
        scores = np.fromfile(Path(folder) / "scores.f32", dtype=np.float32)
        labels = np.fromfile(Path(folder) / "labels.f32", dtype=np.float32)
        theirs = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            auc = roc_auc_score(labels, scores)
            theirs.append(time.perf_counter() - start)
            ours = min(ours, run(program, options.count, folder), key=lambda r: r["seconds"])
    seconds = min(theirs)
    print(f"scikit-learn {sklearn.__version__}: {seconds:.3f} s, AUC {auc:.15f}")
    print(f"millstream, {ours['threads']} threads: {ours['seconds']:.3f} s, AUC {ours['auc']:.15f}")
    result = {
        "bench": "auc",
        "count": options.count,
        "sklearn_seconds": seconds,
        "millstream_seconds": ours["seconds"],
        "ratio": round(seconds / ours["seconds"], 2),
        "difference": abs(auc - ours["auc"]),
    }
    print(json.dumps(result))


def run(program, count, folder):
    out = subprocess.run([program, "--count", str(count), "--write", folder], check=True, capture_output=True, text=True)
    return json.loads(out.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
