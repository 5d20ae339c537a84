"""Ray Train: workers on nodes that are bought together; a node that is announced to go is saved from in time, one that is killed
costs what was done since the last checkpoint."""

from __future__ import annotations

from tests.ai.conftest import SECONDS, Jobs
from tests.support.cluster import wait_until

# The starter's own loop, which notes what each worker does, and waits where the test has something to do.
HELD = """\
import json, os, time
from pathlib import Path
import ray
from ray import train
import starter

SHARED, the_loop, scaling = Path(os.environ["STORAGE"]), starter.train_loop, starter.ScalingConfig

def held(config):
    report, node = train.report, ray.get_runtime_context().get_node_id()
    rank = train.get_context().get_world_rank()

    def waits(epoch, first):
        if (first, epoch) == (0, 6):  # for the notice
            return train.get_preemption_info() is None
        return (first, epoch) in ((0, 8), (8, 10))  # for the end of a node

    def noting(metrics, checkpoint=None):
        report(metrics, checkpoint=checkpoint)
        with open(SHARED / "epochs", "a") as notes:
            saved = checkpoint is not None
            notes.write(json.dumps({"rank": rank, "node": node, "saved": saved, **metrics}) + "\\n")
        while waits(metrics["epoch"], metrics["first"]):
            time.sleep(0.05)

    train.report = noting
    the_loop(config)

def spread(**given):
    return scaling(**given, resources_per_worker={"CPU": 2, "SPOT": 1}, placement_strategy="STRICT_SPREAD")

if __name__ == "__main__":
    starter.train_loop, starter.ScalingConfig = held, spread
    starter.main()
"""
EPOCHS = 12


def test_training_goes_on_from_its_checkpoints_when_a_node_is_taken_and_when_one_is_killed(jobs: Jobs) -> None:
    wait_until(lambda: not jobs.cluster.ready_nodes("spot"), SECONDS, "nobody has bought nodes before")
    before = len(jobs.launches("spot"))
    job = jobs.start(jobs.write("train", HELD, starter="train"), "--env", f"EPOCHS={EPOCHS}")
    at_hold = [jobs.wait_for_note("epochs", count, job) for count in range(1, 2 * 7 + 1)]
    first_nodes = {note["node"] for note in at_hold}
    assert len(first_nodes) == 2
    bought = jobs.launches("spot")[before:]
    assert len(bought) == 2 and len({event["text"].partition(" for ")[2] for event in bought}) == 1, "as one gang"

    doomed = at_hold[0]["node"]
    jobs.announce(doomed, seconds=600)
    jobs.wait_for_epoch(first=0, epoch=8, job=job)
    jobs.kill_node(doomed)
    second = jobs.wait_for_epoch(first=8, epoch=10, job=job)
    jobs.kill_node(next(note["node"] for note in second if note["rank"] == 1))
    jobs.wait(job)

    rank_0 = [note for note in jobs.notes("epochs") if note["rank"] == 0]
    assert [note["epoch"] for note in rank_0] == [*range(9), *range(8, 11), *range(10, EPOCHS)]
    saved = [note["epoch"] for note in rank_0 if note["saved"]]
    assert saved == [4, 7, 9, 11], "at epoch 7 out of turn, since the node was about to go"
    nodes = {first: {n["node"] for n in jobs.notes("epochs") if n["first"] == first} for first in (0, 8, 10)}
    assert [len(each) for each in nodes.values()] == [2, 2, 2]
    assert len(nodes[8] - nodes[0]) == 1 and nodes[10] != nodes[8], "on replacements"
    assert "'epoch': 11" in jobs.cluster.cli("logs", job).stdout
