"""DCN-v2 training: 39 fields × 16, 3 full cross layers beside 400-400-400, batch 4,096, 1,000,000 rows, zipf ids, 2 threads.

    python bench/peers/dcn_v2.py [--quick] [--rounds N] [--steps N]
"""

import dense

if __name__ == "__main__":
    dense.compare("dcn_v2", 1.25)
