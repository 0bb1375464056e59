"""LightGBM's lambdarank example beside `millstream recipe run lightgbm_rank_lambdarank`, on the same files.

    python bench/peers/lightgbm_rank.py ROOT [--seeds N] [--ours BINARY]

ROOT holds `lightgbm_rank/rank.{train,test}{,.query}.gz`: LightGBM's own examples/lambdarank. Settings are those of its
train.conf: 100 trees of 31 leaves, rate 0.1, at least 50 rows and a Hessian of 5 a leaf, 0.9 of the rows a tree. NDCG@10 is
over the 50 test queries, which is so few that the seed of the row sampling moves it by several hundredths: compare means
over seeds. The first line is the default seed. With --ours, a built binary runs the recipe with as many seeds.
"""

import argparse
import gzip
import json
from pathlib import Path
from statistics import mean, stdev

import lightgbm
import numpy
from sklearn.datasets import load_svmlight_file

import peer

SETTINGS = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "max_bin": 255,
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "min_sum_hessian_in_leaf": 5.0,
    "feature_fraction": 1.0,
    "bagging_fraction": 0.9,
    "bagging_freq": 1,
    "num_threads": 2,
    "verbose": -1,
}


def read(folder, part):
    with gzip.open(folder / f"rank.{part}.gz") as rows:
        x, y = load_svmlight_file(rows, n_features=301, zero_based=True)
    with gzip.open(folder / f"rank.{part}.query.gz", "rt") as sizes:
        return x.toarray(), y, numpy.array([int(line) for line in sizes])


def ndcg(train, test, **seed):
    """NDCG@10 on the test queries after 100 trees, as LightGBM counts it."""
    rows = lightgbm.Dataset(train[0], train[1], group=train[2], params=dict(SETTINGS))
    held = rows.create_valid(test[0], test[1], group=test[2])
    seen = {}
    lightgbm.train(dict(SETTINGS, **seed), rows, 100, [held], callbacks=[lightgbm.record_evaluation(seen)])
    return seen["valid_0"]["ndcg@10"][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ours", type=Path)
    options = parser.parse_args()
    folder = options.root / "lightgbm_rank"
    train, test = read(folder, "train"), read(folder, "test")
    print(f"LightGBM {lightgbm.__version__}, default seed: NDCG@10 {ndcg(train, test):.4f}")
    figures = [ndcg(train, test, bagging_seed=seed, seed=seed) for seed in range(1, options.seeds + 1)]
    print(f"LightGBM, {options.seeds} seeds: NDCG@10 {mean(figures):.4f} ± {stdev(figures):.4f}")
    if options.ours:
        command = [options.ours, "recipe", "run", "lightgbm_rank_lambdarank", "--data", options.root, "--json", "--quiet"]
        result, usage = peer.child([*map(str, command), "--seeds", str(options.seeds)])
        print(f"ours, {options.seeds} seeds: {json.dumps(result['metrics'])}, {usage['user_s']:.1f} s of CPU")


if __name__ == "__main__":
    main()
