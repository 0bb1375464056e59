"""SASRec training on MovieLens 1M: batch 128, at most 200 items, width 50, 2 blocks, one negative an element, 2 threads.

    python bench/peers/sasrec.py ROOT [--quick] [--rounds N]

ROOT is the folder that holds `ml-1m/ml-1m.sasrec.txt.gz`. Theirs: SASRec of PyTorch's own modules, sequences padded on the left to 200
as its public code has it, Adam on everything, and the same with lengths sorted into buckets so that a batch is padded to its
own longest ("bucketed"); both with jemalloc. Ours: the recipe `ml_1m_sasrec` without validation. Both draw negatives that the user
never acted on, both in the measured time. Seconds are of one epoch's steps (`epoch_s`), reading and set-up left out;
CPU seconds (`cpu_s`) are per epoch and tell more on a machine that is shared. Quality is what the recipe is for.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

import peer

LONGEST, WIDTH, BATCH = 200, 50, 128


def sequences(root):
    users = {}
    with gzip.open(Path(root) / "ml-1m/ml-1m.sasrec.txt.gz", "rt") as lines:
        for line in lines:
            user, item = line.split()
            users.setdefault(int(user), []).append(int(item))
    # The last item tests, the one before validates.
    return [items[:-2] for items in users.values() if len(items) > 3]


def torch_epochs(root, epochs, bucketed):
    """One process: trains and prints seconds of an epoch."""
    import numpy as np
    import torch
    from torch import nn

    torch.set_num_threads(2)
    torch.manual_seed(1)
    all_items = sequences(root)
    count = max(max(items) for items in all_items)
    rng = np.random.default_rng(1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm0, self.norm1 = nn.LayerNorm(WIDTH, 1e-8), nn.LayerNorm(WIDTH, 1e-8)
            self.qkv, self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)), nn.Linear(WIDTH, WIDTH)
            self.feed = nn.Sequential(
                nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, WIDTH), nn.Dropout(0.2)
            )

        def forward(self, x, hidden):
            q = self.norm0(x)
            query, key, value = self.qkv[0](q), self.qkv[1](x), self.qkv[2](x)
            mixed = nn.functional.scaled_dot_product_attention(
                query[:, None], key[:, None], value[:, None], dropout_p=0.2, is_causal=True
            )[:, 0]
            y = self.norm1(q + self.out(mixed))
            return (y + self.feed(y)) * hidden

    class Sasrec(nn.Module):
        def __init__(self):
            super().__init__()
            self.items, self.places = nn.Embedding(count + 1, WIDTH, padding_idx=0), nn.Embedding(LONGEST, WIDTH)
            self.drop, self.blocks = nn.Dropout(0.2), nn.ModuleList(Block() for _ in range(2))
            self.norm = nn.LayerNorm(WIDTH, 1e-8)

        def forward(self, x):
            hidden = (x > 0)[..., None].float()
            h = self.items(x) * WIDTH**0.5 + self.places.weight[LONGEST - x.shape[1] :]
            h = self.drop(h) * hidden
            for block in self.blocks:
                h = block(h, hidden)
            return self.norm(h)

    def batch(members):
        longest = min(LONGEST, max(len(all_items[m]) for m in members) - 1) if bucketed else LONGEST
        x, y, n = (np.zeros((len(members), longest), np.int64) for _ in range(3))
        for row, m in enumerate(members):
            items = all_items[m][-longest - 1 :]
            k = len(items) - 1
            x[row, longest - k :], y[row, longest - k :] = items[:-1], items[1:]
            drawn = rng.integers(1, count + 1, k)
            while (bad := np.isin(drawn, all_items[m])).any():
                drawn[bad] = rng.integers(1, count + 1, bad.sum())
            n[row, longest - k :] = drawn
        return map(torch.from_numpy, (x, y, n))

    model = Sasrec()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    seconds = []
    for _ in range(epochs):
        order = rng.permutation(len(all_items))
        if bucketed:
            # Batches of like lengths, in a random order.
            chunks = [order[i : i + 16 * BATCH] for i in range(0, len(order), 16 * BATCH)]
            order = np.concatenate([c[np.argsort([len(all_items[m]) for m in c], kind="stable")] for c in chunks])
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        if bucketed:
            rng.shuffle(batches)
        start, cpu = time.perf_counter(), time.process_time()
        for members in batches:
            x, y, n = batch(members)
            h = model(x)
            there = y > 0
            right, wrong = (h * model.items(y)).sum(-1)[there], (h * model.items(n)).sum(-1)[there]
            loss = nn.functional.softplus(-right).mean() + nn.functional.softplus(wrong).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
    # The first epoch warms up.
    wall, cpu = min(seconds[1:] or seconds)
    print(json.dumps({"epoch_s": wall, "cpu_s": cpu}))


def ours(root, epochs, folder):
    """The recipe without validation; the CPU of preparing is measured apart and taken off."""
    text = (peer.REPOSITORY / "recipes/ml_1m_sasrec.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("evaluate_every", "patience", "sampled"))]
    runs = {}
    positions = sum(min(len(items) - 1, LONGEST) for items in sequences(root))
    for count in (1, 1 + epochs):
        edited = "\n".join(f"epochs = {count}" if line.startswith("epochs") else line for line in lines)
        edited = edited.replace("validation_users = 6040", "validation_users = 1")
        edited = edited.replace("[evaluate]", "[evaluate]\nusers = 1")
        recipe = folder / f"sasrec_{count}.toml"
        recipe.write_text(edited)
        command = [peer.target("millstream"), "recipe", "run", recipe, "--data", root, "--json", "--quiet"]
        found, usage = peer.child(command)
        rows = 2 * positions * count
        runs[count] = (rows / found["rows_per_second"] / count, usage["user_s"] + usage["system_s"])
    return {"epoch_s": runs[1 + epochs][0], "cpu_s": (runs[1 + epochs][1] - runs[1][1]) / epochs}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("root")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--torch", choices=["padded", "bucketed"])
    arguments.add_argument("--epochs", type=int)
    given = arguments.parse_args()
    epochs = given.epochs or (1 if given.quick else 3)
    if given.torch:
        return torch_epochs(given.root, epochs, given.torch == "bucketed")
    peer.build("--locked", "--bin", "millstream")
    with tempfile.TemporaryDirectory() as folder:
        theirs = lambda how: lambda: peer.child(
            [sys.executable, __file__, given.root, "--torch", how, "--epochs", str(epochs + 1)], preload=peer.jemalloc()
        )[0]
        contestants = {
            "millstream": lambda: ours(given.root, epochs, Path(folder)),
            "torch padded": theirs("padded"),
            "torch bucketed": theirs("bucketed"),
        }
        results = peer.interleave(contestants, 1 if given.quick else given.rounds)
    peer.table(results, {"epoch_s": ".2f", "cpu_s": ".2f"})
    mine = results["millstream"]
    ratios = {
        f"{name} {key}": row[key] / mine[key]
        for name, row in results.items()
        for key in ("epoch_s", "cpu_s")
        if name != "millstream"
    }
    peer.finish("sasrec", results, ratios)


if __name__ == "__main__":
    main()
