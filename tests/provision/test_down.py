"""`down`: everything with our uid ends, and only two complete lists in a row that show nothing are believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clusterctl_providers.base import TAG_TOKEN, TAG_UID, CreateRequest, PoolRequest

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import NodeState
from clusterctl.provision.journal.book import Journal, StaleFence
from tests.provision.stage import SPEC, START, Stage, launch, offer

SetStage = Callable[..., Stage]
OTHER = "00000000-0000-4000-8000-000000000000"


def test_down_ends_everything_and_every_record(stage: Stage) -> None:
    stage.apply(*(launch(f"cpu-{n}") for n in range(1, 6)))
    told: list[str] = []
    stage.provisioner.down(told.append)
    assert stage.living() == [] and stage.journal.nodes() == {}
    assert told == ["5 instances left", "nothing left, looking once more"]


def test_down_of_nothing_looks_twice(stage: Stage) -> None:
    stage.provisioner.down()
    assert [call["call"] for call in stage.cloud.calls()] == ["list", "list"]


def test_down_twice_is_down(stage: Stage) -> None:
    stage.apply(launch())
    stage.provisioner.down()
    stage.provisioner.down()
    assert stage.living() == []


def test_down_ends_quarantined_nodes_and_strays_without_a_record(stage: Stage) -> None:
    stage.apply(launch("cpu-1"), launch("cpu-2"))
    stage.journal.strict = False
    stage.journal.move("cpu-1", "undrain", stage.now)
    stage.journal.move("cpu-2", "gone", stage.now)
    assert stage.journal.nodes()["cpu-1"].state is NodeState.QUARANTINED
    stage.provisioner.down()
    assert stage.living() == [] and stage.journal.nodes() == {}


def test_down_does_not_make_what_was_only_intended(stage: Stage) -> None:
    stage.journal.intend(launch(), stage.now)
    stage.provisioner.down()
    assert stage.calls("create") == [] and stage.provisioner.resume() == []


def test_down_waits_until_lists_that_lag_have_caught_up(set_stage: SetStage) -> None:
    """An instance that no list shows yet, and of which the journal does not know, is ended all the same."""
    stage = set_stage({"kind": "stale_list", "seconds": 10}, {"kind": "lost_answer", "call": "create"})
    stage.apply(launch())
    stage.provisioner.down()
    stage.now += 60
    assert stage.living() == [] and stage.waited >= 10


def test_down_waits_for_a_launch_whose_caller_was_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider still works on it while its lists show nothing: it appears within the provider's own `in_flight_seconds`."""
    node, cloud = stage.journal.intend(launch(), stage.now), stage.cloud
    monkeypatch.setattr(cloud, "in_flight_seconds", 5.0, raising=False)
    tags = {TAG_UID: stage.provisioner.uid, TAG_TOKEN: node.token}
    request = CreateRequest(node.token, node.id, 1, node.offer, tags, {}, PoolRequest("cpu", SPEC))
    pause = stage.pause

    def late(seconds: float) -> None:
        pause(seconds)
        if stage.now >= START + 4 and not stage.calls("create"):
            cloud.create([request])

    monkeypatch.setattr(stage.provisioner, "_pause", late)
    stage.provisioner.down()
    assert stage.calls("create") and stage.living() == [] and stage.now >= START + 5


def test_an_incomplete_list_is_never_taken_for_an_empty_one(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "partial_list", "until": 30})
    stage.apply(launch())
    stage.provisioner.down()
    assert stage.living() == [] and stage.now >= START + 30


def test_down_leaves_other_clusters_alone(stage: Stage) -> None:
    other = stage.open_cloud("cloud", [], uid=OTHER)
    tags = {"clusterctl-uid": OTHER}
    other.create([CreateRequest("their-token", "cpu-1", 1, offer(), tags, {}, PoolRequest("cpu", SPEC))])
    stage.apply(launch())
    stage.provisioner.down()
    assert stage.living() == [] and len(stage.living(other)) == 1
    other.close()


def test_down_gives_up_loudly_when_the_provider_fails_for_too_long(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "auth_failed", "from": 10})
    stage.apply(launch())
    stage.now += 10
    with pytest.raises(ClusterctlError, match=r"credentials have lapsed.*clusterctl down"):
        stage.provisioner.down(patience=60)
    assert stage.now > START + 70


def test_one_dead_provider_does_not_keep_the_others_up(stage: Stage) -> None:
    broken = stage.open_cloud("broken", [{"kind": "auth_failed"}])
    pools = [PoolRequest("cpu", SPEC), PoolRequest("gpu", {**SPEC, "provider": "broken"})]
    stage.provisioner = stage.open({"fake": stage.cloud, "broken": broken}, pools)
    stage.apply(launch())
    with pytest.raises(ClusterctlError, match="credentials"):
        stage.provisioner.down(patience=5)
    assert stage.living() == []


def test_down_stops_when_somebody_else_takes_over(stage: Stage) -> None:
    stage.apply(launch())
    Journal(stage.directory / "nodes.db").acquire("another head")
    with pytest.raises(StaleFence, match="another head"):
        stage.provisioner.down()
    assert len(stage.living()) == 1
