"""What `status` warns of goes away with its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest
from clusterctl_runtime.head.autoscaler import Autoscaler
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.engine.supply import EngineSupply
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Offer, Plan, Policy
from clusterctl.provision.journal.book import Journal
from tests.provision.stage import SPEC, Stage, launch

QUOTA = {"kind": "quota", "limit": 0, "quota": "vCPUs", "offer": "cpu/*"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, [QUOTA])
    stage.now = steady_time()
    yield stage
    stage.close()


@pytest.fixture
def autoscaler(stage: Stage, tmp_path: Path) -> Iterator[Autoscaler]:
    """One of which only its memory of refusals is asked."""
    store = Store(tmp_path / "store.db")
    nothing: Any = None
    fleet: Any = SimpleNamespace(journal=stage.journal)
    made = Autoscaler(nothing, stage.provisioner, fleet, nothing, EventLog(store), nothing, nothing, Policy())
    yield made
    store.close()


def refused(stage: Stage, autoscaler: Autoscaler, node: str = "cpu-1") -> None:
    (outcome,) = stage.apply(launch(node))
    assert not outcome.ok
    autoscaler._after(outcome)


def test_a_refusal_is_told_with_its_machine_and_until_it_is_over_and_no_longer(
    stage: Stage, autoscaler: Autoscaler
) -> None:
    refused(stage, autoscaler)
    autoscaler._forget_refusals(Plan(()))
    told, now = autoscaler.refusals["cpu"], steady_time()
    assert "vCPUs" in told.text and told.machine == "small on-demand in za" and now - 60 < told.at <= now
    assert now < (autoscaler.refused_until("cpu", now) or 0)
    stage.provisioner.forgive()
    autoscaler._forget_refusals(Plan((launch("cpu-2"),)))
    assert "cpu" in autoscaler.refusals, "it is being tried again"
    autoscaler._forget_refusals(Plan(()))
    assert autoscaler.refusals == {}, "nothing holds the pool up, and nobody wants it"


def test_a_launch_that_works_ends_the_refusal_of_its_pool_only(stage: Stage, autoscaler: Autoscaler) -> None:
    refused(stage, autoscaler)
    (outcome,) = stage.apply(launch("gpu-1"))
    autoscaler._after(outcome)
    assert list(autoscaler.refusals) == ["cpu"]


class Silent(Stage):
    """Its provider does not say what it offers until it is told to."""

    def fail(self, trouble: str) -> None:
        def offers(pool: PoolRequest) -> list[Offer]:
            if self.trouble:
                raise ProviderError(self.trouble)
            return type(self.cloud).offers(self.cloud, pool)

        self.trouble, self.cloud.offers = trouble, offers  # type: ignore[method-assign]
        self.provisioner = self.open_anew()

    def open_anew(self) -> Any:
        trouble, self.trouble = self.trouble, ""
        provisioner = self.open({"fake": self.cloud}, [PoolRequest("cpu", SPEC)])
        provisioner._pools.forget_offers()
        self.trouble = trouble
        return provisioner


def test_offers_that_could_not_be_had_are_told_until_they_are_had(tmp_path: Path) -> None:
    stage, store = Silent(tmp_path), Store(tmp_path / "store.db")
    try:
        stage.fail("the price list does not answer")
        nothing: Any = None
        autoscaler = Autoscaler(
            nothing, stage.provisioner, nothing, nothing, EventLog(store), nothing, nothing, Policy()
        )
        asyncio.run(autoscaler._refresh_offers())
        assert autoscaler.offers_error == "the price list does not answer"
        stage.trouble = ""
        asyncio.run(autoscaler._refresh_offers())
        assert autoscaler.offers_error == "" and autoscaler.offers
    finally:
        stage.close()
        store.close()


def test_what_an_installation_tells_of_itself_holds_while_it_lasts(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(directory=tmp_path)
    supply = EngineSupply(lambda: config, lambda: None)
    said: list[str] = []

    async def install() -> str:
        supply._tell("installing Ray (3 of 40 wheels)")
        await asyncio.sleep(0)
        said.append(supply.message)
        return "/ray/bin/python"

    async def seen() -> str:
        supply._loop = asyncio.get_running_loop()
        python = await supply._told(install())
        await asyncio.sleep(0)
        return python

    assert asyncio.run(seen()) == "/ray/bin/python"
    assert said == ["installing Ray (3 of 40 wheels)"] and supply.message == ""


def test_a_pools_last_failure_outlives_the_head_and_ends_when_a_node_is_ready_or_up_is_said_again(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, [{"kind": "bad_request"}])
    try:
        stage.apply(launch())
        (last,) = stage.journal.last_failures()
        assert (last.pool, last.at, last.machine) == ("cpu", stage.now, "small on-demand in za") and last.text
        stage.journal.commit()
        again = Journal(tmp_path / "nodes.db", strict=True)
        assert again.last_failures() == (last,)
        again.close()
        stage.provisioner.forgive()
        assert stage.journal.last_failures() == ()
    finally:
        stage.close()
