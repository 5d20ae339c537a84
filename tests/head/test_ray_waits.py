"""Which sentence a running job has for what it waits for, and that Ray is asked no more often than somebody wants to know."""

from __future__ import annotations

import asyncio

from clusterctl_runtime.engine.client import EngineRefused
from clusterctl_runtime.engine.demand import Waiting
from clusterctl_runtime.head.engine.waits import Piece, RayWaits, wait_document

from clusterctl.core.model import Demand, Reason, Shape, Wait
from clusterctl.core.resources import Resources

GPU = Demand("ray:task:gpu", "task", ((Shape(Resources.of(GPU=1)), 1),), count=5)
LARGE = Demand("ray:task:large", "task", ((Shape(Resources.of(CPU=64)), 1),))
GROUP = Demand("ray:placement_group:g", "placement_group", ((Shape(Resources.of(CPU=1)), 2),), gang=True)
LAUNCHING = Wait(
    GPU.id,
    5,
    Reason("launching", "waiting for 5 times 1 x GPU: launching g6 in us-1b, ready in about 70 s"),
    70.0,
    ("gpu-1",),
)
FULL = Wait(
    GPU.id, 2, Reason("pool_max", "waiting for 1 x GPU: pool gpu has 1 of at most 1 nodes", "raise max of pool gpu")
)
NEVER = Wait(LARGE.id, 1, Reason("too_large", "64 x CPU is more than any pool can give: ...", "ask for 16 x CPU"))
COMING = Wait(
    GROUP.id, 1, Reason("starting", "waiting for a gang of 2 (2 times 1 x CPU): cpu-1 is booting"), 9.0, ("cpu-1",)
)


def told(pieces: list[Piece], *waits: Wait) -> str:
    document = wait_document(pieces, (GPU, LARGE, GROUP), waits)
    return document["text"] if document else ""


def test_what_a_running_job_waits_for_is_said_with_its_own_counts_and_the_plans_reason() -> None:
    three = [Piece(GPU.id, tasks=3)]
    assert told(three, LAUNCHING) == "3 tasks wait for 1 x GPU: launching g6 in us-1b, ready in about 70 s"
    assert told([Piece(GPU.id, 1, 2)], LAUNCHING).startswith("1 task and 2 actors wait for 1 x GPU: launching")
    assert told([Piece(GPU.id, actors=1)], FULL) == "1 actor waits for 1 x GPU: pool gpu has 1 of at most 1 nodes"
    assert told([Piece(LARGE.id, tasks=1)], NEVER) == "1 task waits: 64 x CPU is more than any pool can give: ..."
    group = "a placement group waits for a gang of 2 (2 times 1 x CPU): cpu-1 is booting"
    assert told([Piece(GROUP.id)], COMING) == group
    assert told(three) == "", "a ready node has room for it: it waits for nothing of ours"


def test_what_can_never_be_comes_before_a_limit_and_that_before_what_is_on_its_way() -> None:
    pieces = [Piece(GROUP.id), Piece(GPU.id, tasks=3), Piece(LARGE.id, tasks=1)]
    assert told(pieces, COMING, LAUNCHING, FULL, NEVER).startswith("1 task waits: 64 x CPU")
    assert told(pieces, COMING, LAUNCHING, FULL, NEVER).endswith(" (and 2 more of its wishes)")
    assert told(pieces[:2], COMING, LAUNCHING, FULL).startswith("3 tasks wait for 1 x GPU: pool gpu has 1 of at most 1")
    assert told(pieces[:2], COMING, LAUNCHING).startswith("3 tasks wait for 1 x GPU: launching")


def test_ray_is_asked_once_for_all_who_look_only_while_it_wants_something_and_its_silence_harms_nobody() -> None:
    asked: list[int] = []
    wanted: list[Demand] = []

    async def ask() -> tuple[Waiting, ...]:
        asked.append(1)
        await asyncio.sleep(0)
        if len(asked) > 1:
            raise EngineRefused("the engine's helper is not running")
        return Waiting("j-a/1/0", {GPU.id: 3}, {}, ()), Waiting("02000000", {GPU.id: 2}, {}, ())

    async def scene() -> None:
        waits = RayWaits(ask, lambda: wanted)
        await waits.look()
        assert not asked
        wanted.append(GPU)
        await asyncio.gather(waits.look(), waits.look())
        await waits.look()
        assert len(asked) == 1
        assert waits.of("j-a") == [Piece(GPU.id, tasks=3)] and waits.of("02000000") == []
        waits._at = float("-inf")
        await waits.look()
        assert len(asked) == 2 and waits.of("j-a"), "it is as it was"
        wanted.clear()
        await waits.look()
        assert len(asked) == 2 and not waits.of("j-a")

    asyncio.run(scene())
