"""DIN training: batch 1,024, histories of up to 50 from 200,000 items × 32, unit 128-80-40-1, tower 96-200-80-1.

    python bench/peers/din.py [--rounds N] [--steps N] [--threads N] [--ours PATH] [--burn PATH]

PyTorch pads and masks; it runs in the setting that was fastest for it: sparse gradients with AdaGrad on rows, Adam on the
dense weights, jemalloc. Ours runs the example `din_speed` on the same ids, labels and first weights. Histories are full (50) or
ragged (5 to 50, even). First losses are compared before anything is timed.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import peer

BATCH, LENGTH, DIM, ROWS = 1024, 50, 32, 200_000
LAYERS = [(128, 80), (80, 40), (40, 1), (96, 200), (200, 80), (80, 1)]


def write(folder, batches, seed=7):
    """histories, lengths, items, labels, rows and weights as little-endian arrays."""
    rng = np.random.default_rng(seed)
    mass = np.cumsum(1 / np.arange(1, ROWS + 1) ** 1.05)
    zipf = lambda n: np.minimum(np.searchsorted(mass / mass[-1], rng.random(n)), ROWS - 1)
    n = BATCH * batches
    history, items = zipf(n * LENGTH).reshape(n, LENGTH), zipf(n)
    lengths = rng.integers(5, LENGTH + 1, n)
    inside = np.arange(LENGTH)[None] < lengths[:, None]
    taste = rng.normal(0, 1, (ROWS, 4))
    logits = 4 * (taste[items][:, None] * taste[history] * inside[..., None]).sum((1, 2)) / lengths
    weights = []
    for i, o in LAYERS:
        bound = 1 / np.sqrt(i)
        weights += [rng.uniform(-bound, bound, o * i), rng.uniform(-bound, bound, o)]
    arrays = {"history": history.astype("<u4"), "lengths": lengths.astype("<u4"), "items": items.astype("<u4"),
              "labels": (rng.random(n) < 1 / (1 + np.exp(-logits))).astype("<f4"),
              "rows": rng.normal(0, 0.1, (ROWS, DIM)).astype("<f4"),
              "weights": np.concatenate(weights).astype("<f4")}
    for name, array in arrays.items():
        array.tofile(Path(folder) / f"{name}.bin")


def torch_run(folder, ragged, steps):
    """Trains in this process and prints JSON."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    read = lambda name, kind: torch.from_numpy(np.fromfile(folder / f"{name}.bin", kind).astype("i8" if kind == "<u4" else kind))
    history = read("history", "<u4").reshape(-1, BATCH, LENGTH)
    items, labels = read("items", "<u4").reshape(-1, BATCH), read("labels", "<f4").reshape(-1, BATCH)
    lengths = read("lengths", "<u4").reshape(-1, BATCH)
    inside = (torch.arange(LENGTH)[None, None] < lengths[..., None]).float() if ragged else torch.ones(history.shape)
    flat, place = read("weights", "<f4"), 0
    made = []
    for i, o in LAYERS:
        layer = nn.Linear(i, o)
        layer.weight.data = flat[place : place + i * o].reshape(o, i).clone()
        layer.bias.data = flat[place + i * o : place + i * o + o].clone()
        place += i * o + o
        made.append(layer)
    relu = nn.ReLU
    unit = nn.Sequential(made[0], relu(), made[1], relu(), made[2])
    tower = nn.Sequential(made[3], relu(), made[4], relu(), made[5])
    table = nn.Embedding.from_pretrained(read("rows", "<f4").reshape(ROWS, DIM), freeze=False, sparse=True)
    dense = torch.optim.Adam([*unit.parameters(), *tower.parameters()], lr=1e-3)
    rows = torch.optim.Adagrad(table.parameters(), lr=0.01)
    losses, times = [], []
    for step in range(steps):
        start, b = time.perf_counter(), step % len(items)
        dense.zero_grad(set_to_none=True)
        rows.zero_grad(set_to_none=True)
        h, t = table(history[b]), table(items[b])
        wide = t.unsqueeze(1).expand_as(h)
        weights = unit(torch.cat([h, wide, h - wide, h * wide], 2)).squeeze(2) * inside[b]
        v = torch.bmm(weights.unsqueeze(1), h).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(tower(torch.cat([v, t, v * t], 1)).squeeze(1), labels[b])
        loss.backward()
        dense.step()
        rows.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    middle = sorted(times[min(3, steps // 5) :])
    print(json.dumps({"rows_s": BATCH / middle[len(middle) // 2], "steps": steps, "losses": losses[:5]}))


def main():
    parser = argparse.ArgumentParser(description="DIN in PyTorch and here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="on a busy machine CPU time says more with 1: PyTorch's threads wait spinning")
    parser.add_argument("--ours", help="path of a built din_speed example; built when absent")
    parser.add_argument("--burn", help="path of a built burn-spike, to be measured as well")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return torch_run(Path(args.inside[0]), args.inside[1] == "ragged", int(args.inside[2]))
    if not args.ours:
        peer.build("-p", "millstream-nn", "--example", "din_speed")
    ours = args.ours or str(peer.target("examples", "din_speed"))
    jemalloc = peer.jemalloc()
    print(f"# jemalloc: {'yes' if jemalloc else 'none found: PyTorch runs on the system allocator'}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        write(folder, args.batches)
        losses, contestants = {}, {}
        commands = {"torch": ([sys.executable, __file__, "--inside", folder], jemalloc), "ours": ([ours, folder], None)}
        if args.burn:
            commands["burn"] = ([args.burn, "din", "plain", folder], None)
            commands["burn, fused unit"] = ([args.burn, "din", "fused", folder], None)
        for shape in ("full", "ragged"):
            for name, (command, preload) in commands.items():
                def run(command=command + [shape], preload=preload, key=f"{name} {shape}"):
                    _, start = peer.child(command + ["1"], args.threads, preload)
                    found, usage = peer.child(command + [str(args.steps)], args.threads, preload)
                    losses[key] = found["losses"]
                    used = usage["user_s"] + usage["system_s"] - start["user_s"] - start["system_s"]
                    rows = BATCH * (args.steps - 1)
                    return {"rows_s": found["rows_s"], "cpu_us_row": 1e6 * used / rows, "peak_mib": usage["peak_mib"]}
                contestants[f"{name} {shape}"] = run
        results = peer.interleave(contestants, args.rounds)
        for shape in ("full", "ragged"):
            apart = max(
                abs(a - b) for name in commands for a, b in zip(losses[f"torch {shape}"], losses[f"{name} {shape}"])
            )
            if apart > 1e-4:
                raise SystemExit(f"first losses differ by {apart} on {shape} histories: {losses}")
            print(f"# first losses agree within {apart:.1e} on {shape} histories", file=sys.stderr)
        peer.table(results, {"rows_s": ",.0f", "cpu_us_row": ",.2f", "peak_mib": ",.0f"})
        ratios = {}
        for shape in ("full", "ragged"):
            t, o = results[f"torch {shape}"], results[f"ours {shape}"]
            ratios[f"{shape}: rows/s"] = o["rows_s"] / t["rows_s"]
            ratios[f"{shape}: cpu"] = t["cpu_us_row"] / o["cpu_us_row"]
            for name in [name for name in commands if name.startswith("burn")]:
                ratios[f"{shape}: cpu, {name} by ours"] = results[f"{name} {shape}"]["cpu_us_row"] / o["cpu_us_row"]
        peer.finish("din", results, ratios)


if __name__ == "__main__":
    main()
