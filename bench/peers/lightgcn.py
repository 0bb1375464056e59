"""An epoch of LightGCN on Gowalla (D = 64, 3 layers, BPR with batch 2,048, Adam), 2 threads.

    python bench/peers/lightgcn.py ROOT [--rounds N] [--steps N] [--ours PATH]

ROOT holds the folder gowalla. PyTorch propagates by its sparse CSR product, both ways over all nodes and layers, as public
implementations do; ours runs the example `lightgcn_speed` on the same graph, triples and first vectors. First losses are compared
before anything is timed. An epoch is so many steps as there are batches of positives; a run takes a few and scales their median up.
"""

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import peer

DIM, LAYERS, BATCH, L2 = 64, 3, 2048, 1e-4


def write(root, folder, batches, seed=5):
    """Graph, triples and first vectors; returns positives."""
    rng = np.random.default_rng(seed)
    with gzip.open(Path(root) / "gowalla/train.txt.gz", "rt") as file:
        users = [np.unique(np.array(line.split()[1:], "i8")) for line in file]
    count = 1 + max(u.max() for u in users if len(u))
    offsets = np.concatenate([[0], np.cumsum([len(u) for u in users])])
    items = np.concatenate(users)
    owner = np.repeat(np.arange(len(users)), np.diff(offsets))
    chosen = rng.choice(len(items), (batches, BATCH))
    triples = np.stack([owner[chosen], items[chosen], rng.integers(0, count, chosen.shape)], 1)
    arrays = {"offsets": offsets.astype("<u4"), "items": items.astype("<u4"), "triples": triples.astype("<u4"),
              "sizes": np.array([count, BATCH], "<u4"),
              "start": rng.normal(0, 0.1, (len(users) + count, DIM)).astype("<f4")}
    for name, array in arrays.items():
        array.tofile(Path(folder) / f"{name}.bin")
    return len(items)


def torch_run(folder, steps):
    """Trains in this process and prints JSON."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    read = lambda name: np.fromfile(folder / f"{name}.bin", "<u4").astype("i8")
    offsets, items, (count, batch) = read("offsets"), read("items"), read("sizes")
    users = len(offsets) - 1
    owner = np.repeat(np.arange(users), np.diff(offsets))
    nodes = users + count
    row, col = np.concatenate([owner, items + users]), np.concatenate([items + users, owner])
    degree = np.bincount(row, minlength=nodes)
    value = (1 / np.sqrt(degree[row] * degree[col])).astype("f4")
    graph = torch.sparse_coo_tensor(np.stack([row, col]), value, (nodes, nodes)).coalesce().to_sparse_csr()
    triples = torch.from_numpy(read("triples").reshape(-1, 3, batch))
    start = torch.from_numpy(np.fromfile(folder / "start.bin", "<f4").reshape(nodes, DIM))
    table = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([table], lr=1e-3)

    class Propagate(torch.autograd.Function):
        """The graph is symmetric: backward is the same product, without a transpose."""

        @staticmethod
        def forward(ctx, x):
            return graph @ x

        @staticmethod
        def backward(ctx, g):
            return graph @ g

    losses, times = [], []
    for step in range(steps):
        begin = time.perf_counter()
        adam.zero_grad(set_to_none=True)
        layer, mean = table, table
        for _ in range(LAYERS):
            layer = Propagate.apply(layer)
            mean = mean + layer
        mean = mean / (LAYERS + 1)
        u, i, j = triples[step % len(triples)]
        i, j = i + users, j + users
        right, wrong = (mean[u] * mean[i]).sum(1), (mean[u] * mean[j]).sum(1)
        length = table[torch.cat([u, i, j])].square().sum()
        loss = F.softplus(wrong - right).mean() + 0.5 * L2 * length / batch
        loss.backward()
        adam.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - begin)
    rest = sorted(times[1:] or times)
    print(json.dumps({"step_s": rest[len(rest) // 2], "best_s": rest[0], "steps": steps, "losses": losses[:5]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ours", help="path of a built lightgcn_speed example; built when absent")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return torch_run(Path(args.inside[0]), int(args.inside[1]))
    if not args.ours:
        peer.build("-p", "millstream-nn", "--example", "lightgcn_speed")
    ours = args.ours or str(peer.target("examples", "lightgcn_speed"))
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        positives = write(args.root, folder, 8)
        losses, contestants = {}, {}
        commands = {"torch": ([sys.executable, __file__, args.root, "--inside", folder], peer.jemalloc()),
                    "millstream": ([ours, folder], None)}
        for name, (command, preload) in commands.items():
            def run(command=command + [str(args.steps)], preload=preload, name=name):
                found, usage = peer.child(command, preload=preload)
                losses[name] = found["losses"]
                return {"epoch_s": found["step_s"] * positives / BATCH, "step_ms": 1e3 * found["step_s"],
                        "best_ms": 1e3 * found["best_s"], "peak_mib": usage["peak_mib"]}
            contestants[name] = run
        results = peer.interleave(contestants, args.rounds)
        apart = max(abs(a - b) for a, b in zip(losses["torch"], losses["millstream"]))
        if apart > 1e-4:
            raise SystemExit(f"first losses differ by {apart}: {losses}")
        print(f"# first losses agree within {apart:.1e}", file=sys.stderr)
        peer.table(results, {"epoch_s": ".1f", "step_ms": ".1f", "best_ms": ".1f", "peak_mib": ".0f"})
        ratio = lambda key: results["torch"][key] / results["millstream"][key]
        peer.finish("lightgcn", results, {"epoch": ratio("epoch_s"), "memory": ratio("peak_mib"), "wanted": 2.0})


if __name__ == "__main__":
    main()
