"""DCN-v2 and DeepFM in PyTorch and here, on the same ids, labels and initial weights; the core of dcn_v2.py and deepfm.py."""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import peer

BATCH, FIELDS, ROWS = 4096, 39, 1_000_000
DIM = {"dcn_v2": 16, "deepfm": 10}
CROSS, HIDDEN = 3, (400, 400, 400)


def layers(model):
    """(inputs, outputs) of the dense layers in order."""
    width = FIELDS * DIM[model]
    cross = [(width, width)] * CROSS if model == "dcn_v2" else []
    tower = list(zip((width, *HIDDEN), HIDDEN))
    head = [((width if cross else 0) + HIDDEN[-1], 1)]
    return cross + tower + head


def write(model, folder, batches, seed=7):
    """ids, sizes, labels, rows and weights as little-endian arrays."""
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([np.full(13, 60), np.exp(rng.uniform(np.log(10), np.log(200_000), FIELDS - 13))])
    sizes = np.maximum(3, sizes * ROWS / sizes.sum()).astype(int)
    sizes[-1] += ROWS - sizes.sum()
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def zipf(count, values, power=1.05):
        mass = np.cumsum(1 / np.arange(1, values + 1) ** power)
        return np.minimum(np.searchsorted(mass / mass[-1], rng.random(count)), values - 1)

    ids = np.stack([starts[f] + zipf(BATCH * batches, sizes[f]) for f in range(FIELDS)], 1)
    hidden = rng.normal(0, 0.35, ROWS)
    labels = rng.random(len(ids)) < 1 / (1 + np.exp(1.0 - hidden[ids].sum(1)))
    weights = []
    for i, o in layers(model):
        bound = 1 / np.sqrt(i)
        weights += [rng.uniform(-bound, bound, o * i), rng.uniform(-bound, bound, o)]
    if model == "deepfm":
        weights.append(np.zeros(1))  # the bias of the linear terms
    arrays = {"ids": ids.astype("<u4"), "sizes": sizes.astype("<u4"), "labels": labels.astype("<f4"),
              "rows": rng.normal(0, 0.05, (ROWS, DIM[model])).astype("<f4"),
              "weights": np.concatenate([w.ravel() for w in weights]).astype("<f4")}
    for name, array in arrays.items():
        array.tofile(Path(folder) / f"{name}.bin")


def network(model, folder):
    """The dense part in PyTorch: (field vectors, linear terms or None, labels) → loss."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    flat = torch.from_numpy(np.fromfile(folder / "weights.bin", "<f4"))
    place = 0

    def linear(i, o):
        nonlocal place
        layer = nn.Linear(i, o)
        layer.weight.data = flat[place : place + i * o].reshape(o, i).clone()
        layer.bias.data = flat[place + i * o : place + i * o + o].clone()
        place += i * o + o
        return layer

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            made = [linear(i, o) for i, o in layers(model)]
            cross = CROSS if model == "dcn_v2" else 0
            self.cross, self.tower, self.head = nn.ModuleList(made[:cross]), nn.ModuleList(made[cross:-1]), made[-1]
            if model == "deepfm":
                self.bias = nn.Parameter(torch.zeros(1))

        def logits(self, v, wide):
            x0 = x = h = v.flatten(1)
            for layer in self.cross:
                x = x0 * layer(x) + x
            for layer in self.tower:
                h = F.relu(layer(h))
            if model == "dcn_v2":
                return self.head(torch.cat([x, h], 1)).squeeze(1)
            pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
            return self.head(h).squeeze(1) + pairs + wide.sum((1, 2)) + self.bias

        def forward(self, v, wide, y):
            return F.binary_cross_entropy_with_logits(self.logits(v, wide), y)

    return Network()


def torch_run(model, folder, steps, setting):
    """Trains in this process and prints JSON. Settings: sparse (AdaGrad on touched rows), dense (Adam on all), compile."""
    import torch
    from torch import nn

    torch.set_num_threads(2)
    folder = Path(folder)
    read = lambda name, kind: torch.from_numpy(np.fromfile(folder / f"{name}.bin", kind).astype("i8" if kind == "<u4" else kind))
    ids = read("ids", "<u4").reshape(-1, BATCH, FIELDS)
    labels = read("labels", "<f4").reshape(-1, BATCH)
    sparse = "sparse" in setting
    tables = [nn.Embedding.from_pretrained(read("rows", "<f4").reshape(ROWS, -1), freeze=False, sparse=sparse)]
    if model == "deepfm":
        tables.append(nn.Embedding.from_pretrained(torch.zeros(ROWS, 1), freeze=False, sparse=sparse))
    net = network(model, folder)
    run = torch.compile(net) if "compile" in setting else net
    dense = torch.optim.Adam(net.parameters(), lr=1e-3)
    rows = [t.weight for t in tables]
    rows = torch.optim.Adagrad(rows, lr=0.01) if sparse else torch.optim.Adam(rows, lr=1e-3)
    losses, times = [], []
    for step in range(steps):
        start, b = time.perf_counter(), step % len(ids)
        dense.zero_grad(set_to_none=True)
        rows.zero_grad(set_to_none=True)
        wide = tables[1](ids[b]) if len(tables) > 1 else None
        loss = run(tables[0](ids[b]), wide, labels[b])
        loss.backward()
        dense.step()
        rows.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    middle = sorted(times[min(3, steps // 5) :])
    print(json.dumps({"rows_s": BATCH / middle[len(middle) // 2], "steps": steps, "losses": losses[:5]}))


def arguments(model):
    parser = argparse.ArgumentParser(description=f"{model} in PyTorch and here")
    parser.add_argument("--quick", action="store_true", help="one round of few steps, the main contestants only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--ours", help="path of a built dense_speed example; built when absent")
    parser.add_argument("--burn", help="path of a built burn-spike, to be measured as well (dcn_v2)")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def timed(command, steps, preload=None):
    """A run, with its CPU time per row less that of a run of one step (reading, compiling and so on)."""
    _, start = peer.child(command + ["1"], preload=preload)
    found, usage = peer.child(command + [str(steps)], preload=preload)
    rows = BATCH * (steps - 1)
    used = usage["user_s"] + usage["system_s"] - start["user_s"] - start["system_s"]
    return {"rows_s": found["rows_s"], "cpu_us_row": 1e6 * used / rows, "peak_mib": usage["peak_mib"], "losses": found["losses"]}


def compare(model, wanted):
    args = arguments(model)
    if args.inside:
        folder, rest = args.inside[0], args.inside[1].split(":")
        return torch_run(model, folder, int(rest[1]), rest[0])
    if not args.ours:
        peer.build("-p", "millstream-nn", "--example", "dense_speed")
    ours = args.ours or str(peer.target("examples", "dense_speed"))
    jemalloc = peer.jemalloc()
    print(f"# jemalloc: {'yes' if jemalloc else 'none found: PyTorch runs on the system allocator'}", file=sys.stderr)
    steps, rounds = (8, 1) if args.quick else (args.steps, args.rounds)
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        write(model, folder, args.batches)
        losses = {}

        def theirs(setting):
            def run():
                script = [sys.executable, sys.argv[0], "--inside", folder]
                one, used = peer.child(script + [f"{setting}:1"], preload=jemalloc)
                found, usage = peer.child(script + [f"{setting}:{steps}"], preload=jemalloc)
                cpu = usage["user_s"] + usage["system_s"] - used["user_s"] - used["system_s"]
                losses[setting] = found["losses"]
                return {"rows_s": found["rows_s"], "cpu_us_row": 1e6 * cpu / BATCH / (steps - 1), "peak_mib": usage["peak_mib"]}

            return run

        def native(name, command):
            def run():
                result = timed(command, steps)
                losses[name] = result.pop("losses")
                return result

            return run

        contestants = {"millstream": native("millstream", [ours, model, folder]), "torch sparse": theirs("sparse")}
        if args.burn:
            contestants["burn"] = native("burn", [args.burn, "plain", folder])
            contestants["burn, fused body"] = native("burn, fused body", [args.burn, "fused", folder])
        if not args.quick:
            contestants["torch sparse compile"] = theirs("sparse-compile")
            contestants["torch dense"] = theirs("dense")
        results = peer.interleave(contestants, rounds)
        apart = max(abs(a - b) for a, b in zip(losses["millstream"], losses["sparse"]))
    peer.table(results, {"rows_s": ",.0f", "cpu_us_row": ".1f", "peak_mib": ".0f"})
    print(f"losses of the first steps differ by at most {apart:.1e}: {losses['millstream']}")
    if apart > 1e-4:
        raise SystemExit("the two did not train the same model")
    best = max((n for n in results if n.startswith("torch")), key=lambda n: results[n]["rows_s"])
    mine, other = results["millstream"], results[best]
    peer.finish(model, results, {
        "rows_s": mine["rows_s"] / other["rows_s"], "wanted": wanted, "cpu": other["cpu_us_row"] / mine["cpu_us_row"],
        "memory": mine["peak_mib"] / other["peak_mib"],
    })
