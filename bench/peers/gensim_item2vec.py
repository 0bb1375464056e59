"""item2vec: words per second of `gensim` and ours on Gowalla's training lists.

    python bench/peers/gensim_item2vec.py ROOT [--rounds N] [--epochs N]

ROOT is the folder that holds `gowalla/`. Needs `pip install gensim==4.4.0`.

Both: skip-gram, negative sampling with 5 draws by frequency^0.75, 64 wide, window 5 (shrunk at random), no subsampling, users' lists as
sentences, 2 threads. Words per second are those of the epochs, without the vocabulary; ours includes putting the two shards
together.
"""

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

import peer

CHILD = """
import json, sys, time
from gensim.models import Word2Vec
sentences = [line.split()[1:] for line in open(sys.argv[1])]
model = Word2Vec(vector_size=64, window=5, sg=1, hs=0, negative=5, sample=0, min_count=1, workers=2, seed=1)
model.build_vocab(sentences)
epochs = int(sys.argv[2])
start = time.perf_counter()
model.train(sentences, total_examples=len(sentences), epochs=epochs)
seconds = time.perf_counter() - start
words = sum(map(len, sentences)) * epochs
print(json.dumps({"words_s": words / seconds, "seconds": seconds}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--no-build", action="store_true")
    options = parser.parse_args()
    if not options.no_build:
        peer.build("-p", "millstream-models", "--example", "factorise")
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.txt"
        train.write_bytes(gzip.decompress((options.root / "gowalla/train.txt.gz").read_bytes()))

        def ours():
            settings = ["sample=0.0", "shuffle=false", "max_user_items=0", "window=5", "negatives=5", f"epochs={options.epochs}"]
            found, used = peer.child([peer.target("examples", "factorise"), train, "none", "item2vec", *settings])
            return {"words_s": found["events"] / found["round_s"], "seconds": found["seconds"], "peak_mib": used["peak_mib"]}

        def theirs():
            found, used = peer.child([sys.executable, "-c", CHILD, str(train), str(options.epochs)])
            return {**found, "peak_mib": used["peak_mib"]}

        results = peer.interleave({"ours": ours, "gensim": theirs}, options.rounds)
    peer.table(results, {"words_s": ",.0f", "seconds": ".2f", "peak_mib": ",.0f"})
    ratios = {"words_s": results["ours"]["words_s"] / results["gensim"]["words_s"]}
    print(f"item2vec: {ratios['words_s']:.2f} times the words per second of gensim")
    peer.finish("gensim_item2vec", results, ratios)


if __name__ == "__main__":
    main()
