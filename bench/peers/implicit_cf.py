"""ItemCF and ALS: `implicit` against ours, on Gowalla and on a synthetic log of ten million events.

    python bench/peers/implicit_cf.py ROOT [--rounds N] [--events N] [--only cf|als]

ROOT is the folder that holds `gowalla/`. Needs `pip install implicit==0.7.3 scipy`.

ItemCF is the cosine of `CosineRecommender(K)` and of our `item_cf` without damping and with powers of one half, for the same
number of neighbours, 20 (the peer's default) and 200; seconds are those of `fit` and of our `build`, from lists in memory to the table of
neighbours. The synthetic log has 200,000 users and 100,000 items; a user's number of events is log-normal (median 32, sigma 0.9), items are
drawn by Zipf's law (exponent 0.8, offset 50); repeats count once. ALS: f = 64, conjugate gradient with 3 steps, the same confidence
and regularisation; seconds are the median iteration, and Recall@20 on a tenth of the training items, held out by the same hash, after
the same number of iterations. Both sides have 2 threads.
"""

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import peer

CF_CHILD = """
import json, sys, time
import numpy as np, scipy.sparse as sp
from implicit.nearest_neighbours import CosineRecommender
numbers = np.fromfile(sys.argv[1], dtype=np.uint32)
users, items = int(numbers[0]), int(numbers[1])
ends, item = numbers[2 : users + 3].astype(np.int64), numbers[users + 3 :].astype(np.int32)
matrix = sp.csr_matrix((np.ones(len(item)), item, ends), shape=(users, items))
matrix.sum_duplicates()
seconds = []
for _ in range(int(sys.argv[3])):
    model = CosineRecommender(K=int(sys.argv[2]), num_threads=2)
    start = time.perf_counter()
    model.fit(matrix, show_progress=False)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": sorted(seconds)[len(seconds) // 2], "best": min(seconds)}))
"""

ALS_CHILD = """
import json, sys, time
import numpy as np, scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
train, test = np.load(sys.argv[1]), np.load(sys.argv[2])
users, items = int(max(train[:, 0].max(), test[:, 0].max())) + 1, int(max(train[:, 1].max(), test[:, 1].max())) + 1
matrix = sp.csr_matrix((np.ones(len(train), dtype=np.float32), (train[:, 0], train[:, 1])), shape=(users, items))
alpha, l2, iterations = float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
marks = []
model = AlternatingLeastSquares(
    factors=64, regularization=l2, alpha=1 + alpha, iterations=iterations, use_cg=True, num_threads=2, random_state=1
)
model.fit(matrix, show_progress=False, callback=lambda i, seconds, *_: marks.append(seconds))
held = {}
for u, i in test:
    held.setdefault(int(u), []).append(int(i))
judged = np.array(sorted(held))
found, _ = model.recommend(judged, matrix[judged], N=20, filter_already_liked_items=True)
recall = np.mean([len(set(f) & set(held[u])) / len(held[u]) for u, f in zip(judged, found)])
print(json.dumps({"seconds": sorted(marks)[len(marks) // 2], "recall@20": float(recall)}))
"""


def write_numbers(path, users, items, ends, item):
    """What `cf_speed` reads as `u32:PATH`."""
    head = np.array([users, items], dtype=np.uint32)
    np.concatenate([head, ends.astype(np.uint32), item.astype(np.uint32)]).tofile(path)


def gowalla(root):
    """(users, items, ends, item) of the training file."""
    lists = {}
    with gzip.open(root / "gowalla/train.txt.gz", "rt") as lines:
        for line in lines:
            user, *items = map(int, line.split())
            lists[user] = sorted(set(items))
    users = max(lists) + 1
    counts = [len(lists.get(u, [])) for u in range(users)]
    item = np.concatenate([np.array(lists.get(u, []), dtype=np.uint32) for u in range(users)])
    return users, int(item.max()) + 1, np.concatenate([[0], np.cumsum(counts)]), item


def synthetic(events, users=200_000, items=100_000):
    """A log of about so many events, repeats taken out."""
    draw = np.random.default_rng(1)
    counts = draw.lognormal(np.log(32), 0.9, users)
    counts = np.maximum(1, np.round(counts * events / counts.sum())).astype(np.int64)
    weights = 1 / (np.arange(items) + 50.0) ** 0.8
    ends = np.concatenate([[0], np.cumsum(counts)])
    drawn = draw.permutation(items)[np.searchsorted(np.cumsum(weights) / weights.sum(), draw.random(ends[-1]))]
    pairs = np.unique(np.repeat(np.arange(users), counts) * items + np.minimum(drawn, items - 1))
    owner, item = pairs // items, pairs % items
    return users, items, np.searchsorted(owner, np.arange(users + 1)), item


def ours_cf(path, k, rounds):
    def run():
        options = [f"rounds={rounds}", 'damping="none"', "source_power=0.5", "target_power=0.5", "max_user_items=0", f"neighbours={k}"]
        found, used = peer.child([peer.target("examples", "cf_speed"), f"u32:{path}", *options])
        return {"seconds": found["seconds"], "best": found["best"], "peak_mib": used["peak_mib"]}

    return run


def theirs_cf(path, k, rounds):
    def run():
        found, used = peer.child([sys.executable, "-c", CF_CHILD, str(path), str(k), str(rounds)])
        return {"seconds": found["seconds"], "best": found["best"], "peak_mib": used["peak_mib"]}

    return run


def held(user, item):
    """Whether our example holds the pair out: the same hash."""
    mask = (1 << 64) - 1
    x = (user * 0x9E37_79B9_7F4A_7C15 & mask) ^ (item * 0xC2B2_AE3D & mask)
    x = (x ^ (x >> 29)) * 0xBF58_476D_1CE4_E5B9 & mask
    return ((x >> 40) & 1023) < 102


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--only", choices=["cf", "als"])
    parser.add_argument("--alpha", type=float, default=10.0)
    parser.add_argument("--l2", type=float, default=10.0)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--no-build", action="store_true")
    options = parser.parse_args()
    if not options.no_build:
        peer.build("-p", "millstream-models", "--example", "cf_speed", "--example", "factorise")
    results, ratios = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        real = gowalla(options.root)
        if options.only != "als":
            write_numbers(folder / "gowalla.u32", *real)
            contestants = {}
            for k in [20, 200]:
                contestants[f"gowalla, {k}, ours"] = ours_cf(folder / "gowalla.u32", k, 5)
                contestants[f"gowalla, {k}, implicit"] = theirs_cf(folder / "gowalla.u32", k, 3)
            if options.events:
                write_numbers(folder / "log.u32", *synthetic(options.events))
                contestants["log, 20, ours"] = ours_cf(folder / "log.u32", 20, 1)
                contestants["log, 20, implicit"] = theirs_cf(folder / "log.u32", 20, 1)
            results |= peer.interleave(contestants, options.rounds)
            for name in [n.removesuffix(", ours") for n in results if n.endswith(", ours")]:
                ratios[f"cf {name}"] = results[f"{name}, implicit"]["seconds"] / results[f"{name}, ours"]["seconds"]
        if options.only != "cf":
            users, _, ends, item = real
            owner = np.repeat(np.arange(users), np.diff(ends))
            out = np.array([held(int(u), int(i)) for u, i in zip(owner, item)])
            pairs = np.stack([owner, item.astype(np.int64)], axis=1)
            np.save(folder / "train.npy", pairs[~out])
            np.save(folder / "test.npy", pairs[out])
            lines = (" ".join(map(str, [u, *item[ends[u] : ends[u + 1]]])) for u in range(users))
            (folder / "train.txt").write_text("\n".join(lines))

            def ours():
                settings = [f"alpha={options.alpha}", f"l2={options.l2}", f"iterations={options.iterations}"]
                command = [peer.target("examples", "factorise"), folder / "train.txt", "valid", "als", *settings]
                found, used = peer.child(command)
                return {"seconds": found["round_s"], "recall@20": found["recall@20"], "peak_mib": used["peak_mib"]}

            def theirs():
                settings = [str(options.alpha), str(options.l2), str(options.iterations)]
                found, used = peer.child(
                    [sys.executable, "-c", ALS_CHILD, str(folder / "train.npy"), str(folder / "test.npy"), *settings]
                )
                return {**found, "peak_mib": used["peak_mib"]}

            results |= peer.interleave({"als, ours": ours, "als, implicit": theirs}, options.rounds)
            ratios["als"] = results["als, implicit"]["seconds"] / results["als, ours"]["seconds"]
    peer.table(results, {"seconds": ".4f", "best": ".4f", "recall@20": ".4f", "peak_mib": ",.0f"})
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} times as fast as implicit")
    peer.finish("implicit_cf", results, ratios)


if __name__ == "__main__":
    main()
