"""A data set that is read, goes through a model block by block, and is written: more of it than any node's memory holds.

Run it with `clusterctl submit job.py`. STORAGE is a place that every node reaches: a bucket (s3://..., gs://...) or a mounted
directory. INPUT is Parquet there; where there is none, some is made first.
"""

import os

import numpy as np
import ray

STORAGE = os.environ.get("STORAGE", "s3://my-bucket/data").rstrip("/")
INPUT = os.environ.get("INPUT", "")
ROWS = int(os.environ.get("ROWS", "200000"))
WORKERS = int(os.environ.get("WORKERS", "4"))


class Model:
    """Loaded once for each worker, called for each batch. Put your model here; `num_gpus=1` below gives each worker a GPU."""

    def __init__(self):
        self.weights = np.linspace(0.0, 1.0, 8)

    def __call__(self, batch):
        batch["score"] = np.outer(batch["value"], self.weights).sum(axis=1)
        return batch


def make_rows(batch):
    """Something to read for a first try."""
    return {"id": batch["id"], "value": batch["id"] % 1000 / 1000}


def main():
    ray.init()  # `clusterctl submit` has set the address
    source = INPUT
    if not source:
        source = f"{STORAGE}/input"
        ray.data.range(ROWS).map_batches(make_rows).write_parquet(source, mode="overwrite")
    scored = ray.data.read_parquet(source).map_batches(
        Model, compute=ray.data.ActorPoolStrategy(min_size=1, max_size=WORKERS), batch_size=4096, num_cpus=1
    )
    scored.write_parquet(f"{STORAGE}/scored", mode="overwrite")  # block by block: nothing waits for the whole
    written = ray.data.read_parquet(f"{STORAGE}/scored")
    print(f"{written.count()} rows with {', '.join(written.schema().names)} in {STORAGE}/scored")


if __name__ == "__main__":
    main()
