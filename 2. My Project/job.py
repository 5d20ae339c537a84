"""Tasks on as many nodes as the cluster may have, and an actor that keeps count.

Run it with `clusterctl submit job.py`.
"""

import random
import socket
import time

import ray

TASKS = 12
POINTS = 200_000


@ray.remote(num_cpus=1)
def count_hits(seed, tally):
    """Throws POINTS darts at a square; returns how many hit the circle inside it."""
    dice = random.Random(seed)
    hits = sum(dice.random() ** 2 + dice.random() ** 2 <= 1 for _ in range(POINTS))
    time.sleep(0.5)  # long enough for the cluster to see that more nodes would help
    ray.get(tally.add.remote(socket.gethostname(), ray.get_runtime_context().get_node_id()))
    return hits


@ray.remote(num_cpus=0)
class Tally:
    """Remembers which node ran how many tasks: state that lives as long as the actor."""

    def __init__(self):
        self.tasks = {}

    def add(self, host, node):
        name = f"{host}/{node[:8]}"
        self.tasks[name] = self.tasks.get(name, 0) + 1

    def table(self):
        return self.tasks


def main():
    ray.init()  # `clusterctl submit` has set the address
    started = time.monotonic()
    tally = Tally.remote()
    hits = ray.get([count_hits.remote(seed, tally) for seed in range(TASKS)])
    print(
        f"pi is about {4 * sum(hits) / (TASKS * POINTS):.4f}, from {TASKS} tasks in {time.monotonic() - started:.1f} s"
    )
    for node, count in sorted(ray.get(tally.table.remote()).items()):
        print(f"  {count:2d} tasks on {node}")


if __name__ == "__main__":
    main()
