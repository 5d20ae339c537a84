"""Whatever happens in whatever order: nothing is promised twice, nothing is held by nobody, nothing runs on a node that is not
there, and what fits starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from clusterctl_runtime.head.jobs import dispatch
from clusterctl_runtime.head.nodes import inbox

from tests.model.loop import VirtualLoop
from tests.model.world import World, describe

SEEDS = int(os.environ.get("MODEL_SEEDS", "1000"))
FIRST = int(os.environ.get("MODEL_FIRST_SEED", "0"))
PARTS = 4
MEMORY = "/dev/shm"
STEPS = 40


def run(seed: int) -> float:
    """One world. The seed is all that is needed to see it again: what chance would say next tells one course from another."""
    place = Path(tempfile.mkdtemp(prefix="model-", dir=MEMORY if Path(MEMORY).is_dir() else None))
    loop = VirtualLoop()
    try:
        world = World(place, seed)
        try:
            loop.run_until_complete(world.run(STEPS))
            return world.chance.random()
        except BaseException as error:
            jobs = "\n".join(describe(job) for job in world.head.book.jobs.values())
            raise AssertionError(f"seed {seed}: {error}\n{' '.join(world.log)}\n{jobs}") from error
    finally:
        loop.close()
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_promised_twice_or_held_by_nobody_and_what_fits_starts(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((dispatch, "MOST_STARTS"), (inbox, "AT_ONCE")):
        monkeypatch.setattr(module, name, getattr(module, name))  # a world may change it
    for seed in range(FIRST + part, FIRST + SEEDS, PARTS):
        run(seed)
