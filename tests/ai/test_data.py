"""Ray Data: read, mapped by a pool of actors, written; what the object stores do not hold is spilled to the nodes' disk."""

from __future__ import annotations

from pathlib import Path

from tests.ai.conftest import SECONDS, STORE, Jobs
from tests.support.cluster import wait_until

LARGE = """\
import json, os, time
from pathlib import Path
import numpy as np
import ray

BLOCKS, MIB = 16, 16
done = Path(os.environ["STORAGE"]) / "data.done"

def fill(batch):
    return {"id": batch["id"], "block": np.stack([np.full(MIB * 2**17, n, dtype=np.float64) for n in batch["id"]])}

class Add:
    def __init__(self): self.one = 1.0
    def __call__(self, batch):
        return {"id": batch["id"], "sum": batch["block"].mean(axis=1) + self.one}

ray.init()
held = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(fill, batch_size=1, resources={"FAST": 0.01})
held = held.materialize()  # all of it on the one node with that resource
print("held", flush=True)
while not done.exists():
    time.sleep(0.05)
pool = ray.data.ActorPoolStrategy(min_size=1, max_size=2)
rows = held.map_batches(Add, compute=pool, batch_size=1).take_all()
print(json.dumps({"right": all(row["sum"] == row["id"] + 1 for row in rows), "rows": len(rows)}))
"""
SIZE = 16 * 16 * 2**20
ROWS = 40  # each is a block, and a file


def test_the_starter_scores_what_it_has_made_and_writes_it(jobs: Jobs) -> None:
    work = jobs.write("data", starter="data")
    said = jobs.run(work, "--env", f"ROWS={ROWS}", program="starter.py")
    assert f"{ROWS} rows with id, value, score in {jobs.shared}/scored" in said


def test_more_data_than_an_object_store_holds_is_spilled_to_the_disk_of_the_nodes_and_read_back(jobs: Jobs) -> None:
    job = jobs.start(jobs.write("large", LARGE))
    wait_until(lambda: "held" in jobs.cluster.cli("logs", job).stdout, SECONDS, "all blocks are made")
    spilled = [path for path in jobs.cluster.home.rglob("spill/ray_spilled_objects_*/*") if path.is_file()]
    assert sum(path.stat().st_size for path in spilled) >= SIZE - STORE, f"{len(spilled)} files"
    (jobs.shared / "data.done").touch()
    jobs.wait(job)
    said = jobs.cluster.cli("logs", job).stdout
    assert '"right": true, "rows": 16' in said
    assert not list(Path("/tmp").glob("cctl-*/**/ray_spilled_objects_*/*")), "nothing of it is where short paths are"
