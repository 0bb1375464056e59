"""Graph indexes side by side: ours, hnswlib, faiss (IndexHNSWFlat) and usearch, on the same vectors.

    cargo build --release -p millstream-index --example index_peer
    python bench/peers/hnsw.py                  # prints tables and, as the last line, JSON

200,000 x 64 unit vectors in 1,000 clusters, as many without any structure, and as many in clusters whose lengths vary
(lognormal, 0.5) and are searched by inner product; M 16, efConstruction 200, recall@10 over 1,000 queries. Every library is built by one thread and by two, then searched by one thread, in rounds that take turns;
the speed at recall 0.95 is interpolated between the measured `ef` around it (log speed linear in recall). Peers get
whole batches of queries, as is best for them; ours gets one query per call.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from peer import target

TARGET, K = 0.95, 10

METRICS = {"clustered": "cosine", "uniform": "cosine", "uneven": "inner-product"}


def sample(kind, rows, dim, rng):
    if kind == "uniform":
        vectors = rng.random((rows, dim), dtype=np.float32) - 0.5
    else:
        centres = rng.standard_normal((1000, dim), dtype=np.float32)
        vectors = centres[rng.integers(0, 1000, rows)] + 0.5 * rng.standard_normal((rows, dim), dtype=np.float32)
    if kind == "uneven":
        return np.ascontiguousarray(vectors * np.exp(0.5 * rng.standard_normal((rows, 1), dtype=np.float32)))
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def exact(base, queries):
    best = []
    for block in np.array_split(queries, 20):
        scores = block @ base.T
        part = np.argpartition(-scores, K, axis=1)[:, :K]
        best.append(np.take_along_axis(part, np.argsort(-np.take_along_axis(scores, part, 1), axis=1), 1))
    return np.concatenate(best)


def recall(found, truth):
    return float(np.mean([len(set(f) & set(t)) / K for f, t in zip(found, truth)]))


class Ours:
    def __init__(self, data, metric, storage, coarse):
        self.metric = metric
        self.name, self.data, self.kind = f"ours, {storage}{', int8 walk' if coarse else ''}", data, (storage, coarse)
        self.child = None

    def ask(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            raise SystemExit(f"index_peer ended at `{line}`: {self.child.stderr.read()}")
        return json.loads(answer)

    def build(self, threads):
        self.close()
        files = [str(self.data / f"{name}.npy") for name in ("base", "queries", "truth")]
        command = [str(target("examples", "index_peer")), *files, "16", "200", self.metric]
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.child = subprocess.Popen(command, env=dict(os.environ, RAYON_NUM_THREADS=str(threads)), **pipe)
        return self.ask(f"build {self.kind[0]} {self.kind[1]}")["seconds"]

    def search(self, ef):
        answer = self.ask(f"search {ef} 1 1")
        return answer["recall"], answer["qps"]

    def close(self):
        if self.child:
            self.child.stdin.close()
            self.child.wait()
            self.child = None


class Peer:
    """A library in this process: `make(threads)` builds, `find(ef)` gives the ids of all queries."""

    def build(self, threads):
        started = time.perf_counter()
        self.make(threads)
        return time.perf_counter() - started

    def search(self, ef):
        self.prepare(ef)
        started = time.perf_counter()
        found = self.find()
        seconds = time.perf_counter() - started
        return recall(found, self.truth), len(self.queries) / seconds

    def __init__(self, base, queries, truth):
        self.base, self.queries, self.truth = base, queries, truth

    def close(self):
        self.index = None


class Hnswlib(Peer):
    name = "hnswlib"

    def make(self, threads):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=self.base.shape[1])
        self.index.init_index(max_elements=len(self.base), M=16, ef_construction=200)
        self.index.add_items(self.base, num_threads=threads)

    def prepare(self, ef):
        self.index.set_ef(ef)

    def find(self):
        return self.index.knn_query(self.queries, k=K, num_threads=1)[0]


class Faiss(Peer):
    name = "faiss HNSWFlat"

    def make(self, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index = faiss.IndexHNSWFlat(self.base.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200
        self.index.add(self.base)

    def prepare(self, ef):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index.hnsw.efSearch = ef

    def find(self):
        return self.index.search(self.queries, K)[1]


class Usearch(Peer):
    def __init__(self, base, queries, truth, dtype):
        super().__init__(base, queries, truth)
        self.name, self.dtype = f"usearch {dtype}", dtype

    def make(self, threads):
        from usearch.index import Index

        self.index = Index(
            ndim=self.base.shape[1], metric="ip", dtype=self.dtype, connectivity=16, expansion_add=200
        )
        self.index.add(np.arange(len(self.base)), self.base, threads=threads)

    def prepare(self, ef):
        self.index.expansion_search = ef

    def find(self):
        return self.index.search(self.queries, K, threads=1).keys


def bracket(index):
    """The two neighbouring ef between which the recall passes the target."""
    ladder = [10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512]
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        if index.search(ladder[middle])[0] >= TARGET:
            high = middle
        else:
            low = middle + 1
    return [ladder[max(low - 1, 0)], ladder[low]]


def at_target(points):
    (low, slow), (high, fast) = points
    if max(low, high) < TARGET:
        return 0.0  # not reached with any effort
    if high <= low or low > TARGET:
        return slow if low > TARGET else fast
    share = (TARGET - low) / (high - low)
    return float(np.exp(np.log(slow) + share * (np.log(fast) - np.log(slow))))


def compare(kind, options, folder):
    rng = np.random.default_rng(1)
    vectors = sample(kind, options.items + options.queries, 64, rng)
    base, queries = vectors[: options.items], vectors[options.items :]
    truth = exact(base, queries)
    for name, values in (("base", base), ("queries", queries), ("truth", truth.astype(np.float32))):
        np.save(folder / f"{name}.npy", values)
    data = (base, queries, truth)
    ours = (kind_of.split(":") for kind_of in options.ours.split(","))
    indexes = [Ours(folder, METRICS[kind], storage, int(coarse)) for storage, coarse in ours]
    peers = {
        "hnswlib": lambda: Hnswlib(*data),
        "faiss": lambda: Faiss(*data),
        "usearch": lambda: Usearch(*data, "f32"),
        "usearch-i8": lambda: Usearch(*data, "i8"),
    }
    indexes += [peers[name]() for name in options.peers.split(",") if name]
    results = {index.name: {} for index in indexes}
    for threads in options.build_threads:
        for index in indexes:
            results[index.name][f"build_{threads}"] = index.build(threads)
            print(f"{index.name}: built by {threads} in {results[index.name][f'build_{threads}']:.1f} s", file=sys.stderr)
    brackets = {index.name: bracket(index) for index in indexes}
    rounds = {index.name: [] for index in indexes}
    for _ in range(options.rounds):
        for index in indexes:
            points = [index.search(ef) for ef in brackets[index.name]]
            rounds[index.name].append(at_target(points))
    for index in indexes:
        result = results[index.name]
        result["ef"] = brackets[index.name]
        result["qps"] = float(np.median(rounds[index.name]))
        result["qps_best"] = max(rounds[index.name])
        if isinstance(index, Ours):
            result["filtered_1_percent"] = index.ask("filtered 64 100")
    for index in indexes:
        index.close()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", default=",".join(METRICS), help="of " + ", ".join(METRICS))
    parser.add_argument("--ours", default="f32:1,f32:0,int8:0", help="storage:int8 walk, ...")
    parser.add_argument("--build-threads", type=lambda text: [int(t) for t in text.split(",")], default=[2])
    parser.add_argument("--peers", default="hnswlib,faiss,usearch,usearch-i8", help="which to compare with")
    options = parser.parse_args()
    for kind in options.kinds.split(","):
        if kind not in METRICS:
            parser.error(f"argument --kinds: there is no kind {kind!r}, expected some of {', '.join(METRICS)}")
    summary = {}
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            summary[kind] = compare(kind, options, Path(folder))
        print(f"{kind}, {METRICS[kind]}, {options.items} x 64, queries/s by one thread at recall@{K} = {TARGET}")
        for name, result in summary[kind].items():
            builds = "  ".join(f"build({key[6:]}) {result[key]:6.1f} s" for key in result if key.startswith("build_"))
            filtered = result.get("filtered_1_percent")
            more = f"  1 % pass: recall {filtered['recall']:.4f}, {filtered['qps']:.0f}/s" if filtered else ""
            print(f"  {name:24} {result['qps']:9.0f} (best {result['qps_best']:.0f})  ef {result['ef']}  {builds}{more}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
