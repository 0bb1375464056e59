"""DeepFM training: 39 fields × 10, 400-400-400, batch 4,096, 1,000,000 rows, zipf ids, 2 threads.

    python bench/peers/deepfm.py [--quick] [--rounds N] [--steps N]
"""

import dense

if __name__ == "__main__":
    dense.compare("deepfm", 1.5)
