"""Scoring requests of 500 candidates with DCN-v2 (39 fields × 16, 3 full cross layers beside 400-400-400), in process.

    python bench/peers/scoring.py [--quick] [--rounds N] [--seconds S] [--request-fields U]

Millstream computes what belongs to the request once; PyTorch scores 500 full rows, eager and compiled, with 2 threads, without
gradients. Both look up the same 1,000,000 rows and must give the same logits. Millstream runs twice, once in f32 and once with weights
in 16 bits (`[rank] precision = "i16"`), whose logits may be off by a stated part of their spread. The two ratios are never mixed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import dense
import peer

CANDIDATES = 500
# Most that a logit of i16 may differ from that of f32, in standard deviations of the request's logits.
I16_APART = 5e-3


def write(folder, request_fields, requests=32, seed=11):
    """Ids per field: the first fields are the same for all candidates of a request."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(3, rng.dirichlet(np.full(dense.FIELDS, 0.5)) * dense.ROWS).astype(int)
    sizes[-1] += dense.ROWS - sizes.sum()
    ids = np.stack([rng.integers(0, n, requests * CANDIDATES) for n in sizes], 1)
    for f in range(request_fields):
        ids[:, f] = np.repeat(ids[::CANDIDATES, f], CANDIDATES)
    ids.astype("<u4").tofile(Path(folder) / "ids.bin")
    np.append(sizes, request_fields).astype("<u4").tofile(Path(folder) / "sizes.bin")


def torch_run(folder, seconds, compiled):
    """Scores in this process and prints JSON."""
    import torch
    from torch import nn

    torch.set_num_threads(2)
    folder = Path(folder)
    read = lambda name, kind: np.fromfile(folder / f"{name}.bin", kind)
    sizes = read("sizes", "<u4")[:-1].astype("i8")
    ids = read("ids", "<u4").astype("i8").reshape(-1, CANDIDATES, dense.FIELDS)
    ids = torch.from_numpy(ids + np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    flat, named, at = torch.from_numpy(read("weights", "<f4")), {}, 0
    for line in (folder / "weights.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        shape = json.loads(shape)
        named[name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += named[name].numel()
    table = nn.Embedding.from_pretrained(torch.from_numpy(read("rows", "<f4")).reshape(-1, 16))
    layer = lambda name, x: torch.nn.functional.linear(x, named[f"{name}.weight"], named[f"{name}.bias"])

    def score(ids):
        x0 = x = h = table(ids).flatten(1)
        for l in range(dense.CROSS):
            x = x0 * layer(f"cross.{l}", x) + x
        for l in range(len(dense.HIDDEN)):
            h = torch.relu(layer(f"tower.{l}", h))
        return layer("head", torch.cat([x, h], 1)).squeeze(1)

    run = torch.compile(score) if compiled else score
    with torch.inference_mode():
        ours = read("scores", "<f4")
        apart = float(np.abs(run(ids[0]).numpy() - ours).max())
        times, begin, cpu = [], time.perf_counter(), time.process_time()
        while time.perf_counter() - begin < seconds or len(times) < 3:
            start = time.perf_counter()
            run(ids[len(times) % len(ids)])
            times.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
    times.sort()
    print(json.dumps({"candidates_s": CANDIDATES / times[len(times) // 2], "median_ms": 1e3 * times[len(times) // 2],
                      "p99_ms": 1e3 * times[len(times) * 99 // 100], "best_ms": 1e3 * times[0],
                      "cpu_us": 1e6 * cpu / (len(times) * CANDIDATES), "apart": apart}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--request-fields", type=int, default=20, help="fields that belong to the request, of 39")
    parser.add_argument("--ours", help="path of a built score_speed example; built when absent")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return torch_run(args.inside[0], float(args.inside[1]), args.inside[2] == "compiled")
    if not args.ours:
        peer.build("-p", "millstream-models", "--example", "score_speed")
    ours = args.ours or str(peer.target("examples", "score_speed"))
    seconds, rounds = (2, 1) if args.quick else (args.seconds, args.rounds)
    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        write(folder, args.request_fields)

        def run(command, preload=None):
            found, usage = peer.child(command + [], preload=preload)
            return found | {"peak_mib": usage["peak_mib"]}

        torch = lambda how: lambda: run([sys.executable, __file__, "--inside", folder, str(seconds), how], peer.jemalloc())
        results = peer.interleave({
            "millstream f32": lambda: run([ours, folder, str(seconds), "f32"]),
            "millstream i16": lambda: run([ours, folder, str(seconds), "i16"]),
            "torch": torch("eager"),
            "torch compiled": torch("compiled"),
        }, rounds)
    peer.table(results, {"candidates_s": ",.0f", "median_ms": ".2f", "p99_ms": ".2f", "best_ms": ".2f", "cpu_us": ".1f",
                         "peak_mib": ".0f", "apart": ".1e"})
    others = [n for n in results if n.startswith("torch")]
    if any(results[n]["apart"] > 1e-4 for n in others):
        raise SystemExit("the two do not give the same logits")
    fixed = results["millstream i16"]
    print(f"# logits of i16 are at most {fixed['apart']:.1e} from those of f32, {fixed['apart'] / fixed['spread']:.1e} of their spread")
    if fixed["apart"] > I16_APART * fixed["spread"]:
        raise SystemExit("logits of i16 are too far from those of f32")
    best = max(others, key=lambda n: results[n]["candidates_s"])
    ratio = lambda name: results[name]["candidates_s"] / results[best]["candidates_s"]
    peer.finish("scoring", results, {
        "candidates_s of f32": ratio("millstream f32"), "candidates_s of i16": ratio("millstream i16"), "wanted": 3.0,
    })


if __name__ == "__main__":
    main()
