"""A head on an instance of its cluster ends that one last, whatever it dies of on the way."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from clusterctl_providers import make_provider
from clusterctl_providers.base import TAG_NODE, TAG_TOKEN, TAG_UID, CreateRequest, PoolRequest, Provider
from clusterctl_providers.fake.cloud import NEVER, FakeCloud
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head import __main__ as daemon
from clusterctl_runtime.head import head as heads
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.handover import FILE as HANDOVER
from clusterctl_runtime.head.head import Head
from clusterctl_runtime.head.lifetime import ending
from clusterctl_runtime.head.lifetime.watch import ENDED_FILE

from clusterctl.core.errors import ProviderError, Throttled
from clusterctl.core.model import Instance, Launch, Reason
from clusterctl.provision.journal.book import Journal
from clusterctl.spec.load import parse_spec
from tests.crash.stage import BrittleProvider, Crash, Fuse, nothing_lost

UID = "7d1f0a52-3c1e-4b7e-9a55-2f4f5c0d9e11"
SPEC = """\
cluster: demo
provider: {fake: {directory: CLOUD, boot_seconds: 0, types: {small: {CPU: 1, price: 2.0}}}}
engine: none
lifetime: {at: 2026-01-01T08:00}
pools: [{name: cpu, max: 3}]
"""
HEAD_AND_WORKER: Sequence[tuple[str, Literal["head", "worker"]]] = (("head-1", "head"), ("cpu-1", "worker"))


class MachineEnds(BaseException):
    """The instance is ended on which the head runs."""


class TooEarly(BaseException):
    """That instance is ended while something is left that only this head would end."""


class Below(BrittleProvider):
    """The cloud as a head on one of its instances has it: with that one the head's process ends."""

    def __init__(self, inner: Provider, fuse: Fuse, own: str, check: Callable[[], None]) -> None:
        super().__init__(inner, fuse, nothing_lost)
        self.own, self.check = own, check

    def terminate(self, instance_ids: Sequence[str]) -> None:
        if self.own not in instance_ids:
            self._around("terminate", instance_ids)
            return
        self.check()
        self.fuse.at("before terminate")
        self.inner.terminate(instance_ids)
        raise MachineEnds


class Place:
    """What outlives every process of the head: its directory, and the cloud."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = directory, monkeypatch
        self.directory = directory / "head"
        self.own = ""
        self.directory.mkdir()
        spec = parse_spec(SPEC.replace("CLOUD", str(directory / "cloud")))
        config = {
            "name": "demo", "uid": UID, "spec": spec.model_dump(mode="json", by_alias=True), "spec_yaml": "",
            "token_sha256": "0" * 64, "state_dir": str(directory / "state"),
        }  # fmt: skip
        write_private(self.directory / "config.json", json.dumps(config))
        self._launch()

    def _launch(self) -> None:
        """A head and a worker, as `up` launches them, and the handover."""
        settings = HeadConfig.load(self.directory).spec.provider_settings
        with_context = heads.ProviderContext("demo", UID, str(self.root / "state"), dict(settings))
        cloud = make_provider("fake", with_context)
        journal = Journal(self.root / "client.db")
        journal.acquire("up")
        pool = PoolRequest("cpu", HeadConfig.load(self.directory).spec.pools[0].model_dump(mode="json"))
        offer = cloud.offers(pool)[0]
        for node_id, role in HEAD_AND_WORKER:
            node = journal.intend(Launch(node_id, 1, f"token-{node_id}", offer, role, "", Reason("", "")), time.time())
            tags = {TAG_UID: UID, TAG_NODE: node_id, TAG_TOKEN: node.token}
            (made,) = cloud.create([CreateRequest(node.token, node_id, 1, node.offer, tags, {}, pool)])
            assert isinstance(made, Instance), made
            journal.move(node_id, "requested", time.time(), instance_id=made.id)
            self.own = self.own or made.id
        records = journal.export(["head-1", "cpu-1"])
        handover = {"own": "head-1", "address": "10.0.0.4", "bundle": "none", "records": records}
        write_private(self.directory / HANDOVER, json.dumps(handover))
        journal.close()
        cloud.close()

    def living(self) -> list[str]:
        cloud = FakeCloud(self.root / "cloud" / "fake-cloud.db")
        try:
            return [one.id for one in cloud.instances() if one.ended_at == NEVER]
        finally:
            cloud.close()

    def before_its_own(self) -> None:
        """All others have ended, and that is on disk."""
        if self.living() != [self.own] or not (self.directory / ENDED_FILE).exists():
            raise TooEarly

    def live(self, fuse: Fuse) -> str:
        """One process of the head, until it dies; of what."""

        def brittle(name: str, context: Any) -> Provider:
            return Below.around(make_provider(name, context), fuse, self.own, self.before_its_own)

        def write(path: Path, text: str) -> None:
            fuse.at(f"before {path.name}")
            write_private(path, text)
            fuse.at(f"after {path.name}")

        self.monkeypatch.setattr(heads, "make_provider", brittle)
        self.monkeypatch.setattr(ending, "write_private", write)
        head = Head(HeadConfig.load(self.directory))
        try:
            asyncio.run(_until_it_dies(head))
        except (Crash, MachineEnds) as end:
            return type(end).__name__
        finally:
            head.store.close()
            head.provisioner.close()
            head.fleet.written.close()
            head.journal.close()
        raise AssertionError("it went on without its machine")


async def _until_it_dies(head: Head) -> None:
    tasks = [asyncio.create_task(part) for part in (head.autoscaler.run(), head._live_out())]
    ended, others = await asyncio.wait(tasks, timeout=60, return_when=asyncio.FIRST_EXCEPTION)
    for task in others:
        task.cancel()
    for task in ended:
        task.result()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(ending, "AGAIN_SECONDS", 0.01)
    root = tmp_path / "place"
    root.mkdir()
    return Place(root, monkeypatch)


def test_a_head_that_dies_anywhere_while_it_ends_its_cluster_is_finished_by_the_next_and_its_own_instance_is_last(
    place: Place,
) -> None:
    """Its moment has passed while it was off: the first look of a process decides it."""
    fresh = place.root.with_name("fresh")
    shutil.copytree(place.root, fresh)
    whole = Fuse()
    assert place.live(whole) == "MachineEnds" and place.living() == []
    assert {"before ended.json", "after ended.json", "after terminate"} <= set(whole.passed)
    for position in range(1, len(whole.passed) + 1):
        shutil.rmtree(place.root)
        shutil.copytree(fresh, place.root)
        assert place.live(Fuse(position)) == "Crash", whole.passed[position - 1]
        assert place.own in place.living()
        assert not daemon._has_ended(place.directory), "the keeper starts another one"
        assert place.live(Fuse()) == "MachineEnds" and place.living() == [], whole.passed[position - 1]
    assert json.loads((place.directory / ENDED_FILE).read_text())["rule"] == "at"


def test_what_the_provider_refuses_is_told_and_tried_again(place: Place) -> None:
    refusals: list[ProviderError] = [Throttled("not so fast"), ProviderError("no right to do that")]
    plain = Below.terminate

    def refuse(self: Below, instance_ids: Sequence[str]) -> None:
        if place.own in instance_ids and refusals:
            raise refusals.pop()
        plain(self, instance_ids)

    place.monkeypatch.setattr(Below, "terminate", refuse)
    assert place.live(Fuse()) == "MachineEnds" and not refusals and place.living() == []
