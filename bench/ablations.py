"""What each part of the retrievers is worth, on a synthetic world: the same model with and without it, some seeds each.

    python bench/ablations.py WORK [--seeds N] [--users N --items N --exposures N] [--only NAME] [--binary FILE]

WORK is a folder for the world, a run of the quickstart (whose chain names the hard negatives) and the recipes; what is there is used
again. Standard library only. Recall@50 and NDCG@10 are of the test part, the epoch is chosen on the validation part; the lift is that
of the means, and the deviations are over seeds of training, on one world.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import peer

TRAINING = """
[training]
batch_size = 1024
epochs = 15
patience = 3
monitor = "ndcg@10"
negatives = 512
rows = { optimizer = "adam", learning_rate = 3e-3 }
"""
TARGET = "\n[evaluate]\nk = [10, 50]\n\n[target]\nat_least = { \"recall@50\" = 0.0 }\n"
TOWERS = "name = \"two_tower\"\n"
IDS = "fields = [\"user_id\", \"item_id\", \"clicks\"]\n"
MIND = "name = \"mind\"\n" + IDS + "unit = true\ntemperature = 0.1\n"

# Name: what it is compared with, the model, changes of [training], further tables.
VARIANTS = {
    "two towers": (None, TOWERS, "", ""),
    "without log-Q": ("two towers", TOWERS, "log_q_weight = 0.0", ""),
    "log q by streaming hashes": ("two towers", TOWERS, "frequency = { alpha = 0.02 }", ""),
    "without temperature and L2": ("two towers", TOWERS + "unit = false\ntemperature = 1.0\n", "", ""),
    "without L2": ("two towers", TOWERS + "unit = false\n", "", ""),
    "without temperature": ("two towers", TOWERS + "temperature = 1.0\n", "", ""),
    "hard negatives, 1 each": ("two towers", TOWERS, "", "[training.hard_negatives]\nfile = \"{hard}\"\neach = 1\n"),
    "hard negatives, 4 each": ("two towers", TOWERS, "", "[training.hard_negatives]\nfile = \"{hard}\"\neach = 4\n"),
    "MIND, K = 1": (None, MIND + "interests = 1\n", "", ""),
    "MIND, K = 2": ("MIND, K = 1", MIND + "interests = 2\n", "", ""),
    "MIND, K = 4": ("MIND, K = 1", MIND + "interests = 4\n", "", ""),
    "MIND, K = 8": ("MIND, K = 1", MIND + "interests = 8\n", "", ""),
    "DAT without mimic loss": (None, "name = \"dat\"\nmimic = 0.0\n", "", ""),
    "DAT, mimic 0.5": ("DAT without mimic loss", "name = \"dat\"\nmimic = 0.5\n", "", ""),
}


def prepare(binary, work, options):
    """The world, a run over it, and its hard negatives; made once."""
    run, hard = work / "run", work / "hard.jsonl"
    if not (run / "world/dataset.toml").exists():
        sizes = [f"--{k}={getattr(options, k)}" for k in ("users", "items", "exposures")]
        subprocess.run([binary, "quickstart", "--once", "--dir", run, *sizes], check=True, stdout=subprocess.DEVNULL)
    if not hard.exists():
        subprocess.run([binary, "recall", "mine", "--run", run, "--out", hard], check=True, stdout=subprocess.DEVNULL)
    return run, hard


def recipe(dataset, variant, hard):
    """A variant's recipe over the world's own dataset.toml."""
    _, model, training, more = variant
    head = dataset.replace("[dataset]\n", "[dataset]\nfolder = \"world\"\n", 1)
    # A key that the variant sets stands in place of the common one.
    keys = [line for line in TRAINING.splitlines() if not training or line.split(" = ")[0] != training.split(" = ")[0]]
    common = "\n".join([*keys, training])
    return f"{head}\n[model]\n{model}{common}\n{more.format(hard=hard)}{TARGET}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=6000)
    parser.add_argument("--exposures", type=int, default=300_000)
    parser.add_argument("--only", action="append", help="a variant; may be repeated")
    parser.add_argument("--binary", type=Path, help="instead of building one")
    options = parser.parse_args()
    if not options.binary:
        peer.build("-p", "millstream-cli")
    binary, work = options.binary or peer.target("millstream"), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    run, hard = prepare(binary, work, options)
    dataset = (run / "world/dataset.toml").read_text()
    found = {}
    for name, variant in VARIANTS.items():
        if options.only and name not in options.only:
            continue
        file = work / f"{name.replace(' ', '_').replace(',', '')}.toml"
        file.write_text(recipe(dataset, variant, hard))
        command = [binary, "recipe", "run", file, "--data", run, "--seeds", str(options.seeds), "--json"]
        result, _ = peer.child(command)
        found[name] = result
        print(f"# {name}: {result['metrics']['recall@50']:.4f}", file=sys.stderr, flush=True)
    print("| variant | Recall@50 | lift | NDCG@10 | lift | valid NDCG@10 |\n|---|---|---|---|---|---|")
    for name, result in found.items():
        cells = []
        for key in ("recall@50", "ndcg@10"):
            value, sd = result["metrics"][key], result.get("sd", {}).get(key, 0.0)
            base = found.get(VARIANTS[name][0])
            lift = f"{value / base['metrics'][key] - 1:+.1%}" if base else "–"
            cells += [f"{value:.4f} ± {sd:.4f}", lift]
        print(f"| {name} | {' | '.join(cells)} | {result['valid']['ndcg@10']:.4f} |")
    print(json.dumps({name: result["metrics"] for name, result in found.items()}))


main()
