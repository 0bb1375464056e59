"""Requests of 500 candidates against a history of 1,000 events with SIM-soft (items × 32, k = 50, unit 128-80-40-1, tower 64-200-80-1), in process.

    python bench/peers/sim_serving.py [--quick] [--rounds N] [--seconds S] [--ours PATH]

PyTorch scores with 2 threads, without gradients, eager and compiled: inner products of all candidates with the history, topk, gather,
unit, tower. Both use the same weights and rows and must give the same logits.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import peer

CANDIDATES, EVENTS, WIDTH, K, ROWS = 500, 1000, 32, 50, 200_000


def write(folder, requests=32, seed=11):
    """Items of histories and candidates, the popular ones more often."""
    rng = np.random.default_rng(seed)
    draw = lambda n: (ROWS * rng.random((requests, n)) ** 3).astype("<u4")
    draw(EVENTS).tofile(Path(folder) / "history.bin")
    draw(CANDIDATES).tofile(Path(folder) / "items.bin")


def torch_run(folder, seconds, compiled):
    """Scores in this process and prints JSON."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(2)
    folder = Path(folder)
    ids = lambda name, n: torch.from_numpy(np.fromfile(folder / f"{name}.bin", "<u4").astype("i8")).reshape(-1, n)
    history, items = ids("history", EVENTS), ids("items", CANDIDATES)
    table = torch.from_numpy(np.fromfile(folder / "rows.bin", "<f4")).reshape(-1, WIDTH)
    flat, named, at = torch.from_numpy(np.fromfile(folder / "weights.bin", "<f4")), {}, 0
    for line in (folder / "weights.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        shape = json.loads(shape)
        named[name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += named[name].numel()
    layer = lambda name, x: F.linear(x, named[f"{name}.weight"], named[f"{name}.bias"])

    def score(history, items):
        h, t = F.embedding(history, table), F.embedding(items, table)
        best = torch.topk(t @ h.T, K, dim=1, sorted=False).indices
        h = h[best]  # [500, K, 32]
        wide = t.unsqueeze(1).expand_as(h)
        a = torch.relu(layer("sequence.0", torch.cat([h, wide, h - wide, h * wide], 2)))
        a = layer("sequence.head", torch.relu(layer("sequence.1", a)))
        x = torch.cat([t, (a * h).sum(1)], 1)
        for l in range(2):
            x = torch.relu(layer(f"tower.{l}", x))
        return layer("head", x).squeeze(1)

    run = torch.compile(score) if compiled else score
    with torch.inference_mode():
        ours = np.fromfile(folder / "scores.bin", "<f4")
        apart = float(np.abs(run(history[0], items[0]).numpy() - ours).max())
        times, begin, cpu = [], time.perf_counter(), time.process_time()
        while time.perf_counter() - begin < seconds or len(times) < 3:
            start, r = time.perf_counter(), len(times) % len(items)
            run(history[r], items[r])
            times.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
    times.sort()
    print(json.dumps({"median_ms": 1e3 * times[len(times) // 2], "p99_ms": 1e3 * times[len(times) * 99 // 100],
                      "best_ms": 1e3 * times[0], "cpu_us": 1e6 * cpu / (len(times) * CANDIDATES), "apart": apart}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--ours", help="path of a built sim_speed example; built when absent")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return torch_run(args.inside[0], float(args.inside[1]), args.inside[2] == "compiled")
    if not args.ours:
        peer.build("-p", "millstream-models", "--example", "sim_speed")
    ours = args.ours or str(peer.target("examples", "sim_speed"))
    seconds, rounds = (2, 1) if args.quick else (args.seconds, args.rounds)
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        write(folder)

        def run(command, preload=None):
            found, usage = peer.child(command, preload=preload)
            return found | {"peak_mib": usage["peak_mib"]}

        torch = lambda how: lambda: run([sys.executable, __file__, "--inside", folder, str(seconds), how], peer.jemalloc())
        results = peer.interleave({
            "millstream": lambda: run([ours, folder, str(ROWS), str(seconds)]),
            "torch": torch("eager"),
            "torch compiled": torch("compiled"),
        }, rounds)
    peer.table(results, {"median_ms": ".2f", "p99_ms": ".2f", "best_ms": ".2f", "cpu_us": ".1f", "peak_mib": ".0f", "apart": ".1e"})
    others = [n for n in results if n.startswith("torch")]
    if any(results[n]["apart"] > 1e-4 for n in others):
        raise SystemExit("the two do not give the same logits")
    ratio = lambda key: min(results[n][key] for n in others) / results["millstream"][key]
    peer.finish("sim_serving", results, {"p99": ratio("p99_ms"), "median": ratio("median_ms"), "cpu": ratio("cpu_us"), "wanted": 3.0})


if __name__ == "__main__":
    main()
