"""A plain job: any program will do. Run it with `clusterctl submit job.py`."""

import os
import random
import socket

POINTS = 500_000


def main():
    dice = random.Random(1)
    hits = sum(dice.random() ** 2 + dice.random() ** 2 <= 1 for _ in range(POINTS))
    print(f"pi is about {4 * hits / POINTS:.4f}")
    node = os.environ.get("CLUSTERCTL_NODE_ID", "no node of a cluster")
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    print(f"  rank {rank} of {world} on {node} ({socket.gethostname()})")


if __name__ == "__main__":
    main()
