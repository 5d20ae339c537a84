"""What becomes of a plan: intent first, one call per provider, typed errors, and nothing ended that was not meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clusterctl_providers.base import TAG_EXPIRES, CreateRequest, PoolRequest, Provider
from clusterctl_providers.wrapper import Wrapper

from clusterctl.core.errors import UnknownOutcome
from clusterctl.core.model import Drain, Mark, NodeState, Reason, Terminate, Undrain
from clusterctl.provision.provisioner import Provisioner
from clusterctl.provision.retries import SPREAD, Retries
from tests.provision.stage import REASON, SPEC, START, UID, Stage, launch, offer

SetStage = Callable[..., Stage]


class Recording(Wrapper):
    """A provider that tells what the journal held when it was called, and may answer in its own way."""

    def __init__(
        self, inner: Provider, stage: Stage, answer: Callable[[Sequence[CreateRequest]], Any] | None = None
    ) -> None:
        super().__init__(inner)
        self.stage, self.answer = stage, answer
        self.journalled: list[set[str]] = []
        self.requests: list[Sequence[CreateRequest]] = []

    def create(self, requests: Sequence[CreateRequest]) -> Any:
        self.requests.append(requests)
        self.journalled.append({node.token for node in self.stage.journal.nodes().values()})
        return self.answer(requests) if self.answer else self.inner.create(requests)

    def close(self) -> None:
        return


def record(stage: Stage, answer: Callable[[Sequence[CreateRequest]], Any] | None = None) -> Recording:
    provider = Recording.around(stage.cloud, stage, answer)
    stage.provisioner = stage.open({"recording": provider})
    return provider


def test_every_intent_is_journalled_before_the_one_call_that_creates_them(stage: Stage) -> None:
    provider = record(stage)
    launches = [launch(f"cpu-{n}") for n in range(1, 21)]
    outcomes = stage.apply(*launches)
    assert all(outcome.ok for outcome in outcomes) and len(provider.requests) == 1
    assert provider.journalled == [{item.token for item in launches}]
    assert stage.provisioner.launches(stage.now) == (START,) * 20


def test_tags_say_whose_it_is_and_when_its_own_switch_has_fired(stage: Stage) -> None:
    provider = record(stage)
    stage.apply(launch())
    (request,) = provider.requests[0]
    assert request.tags["clusterctl-uid"] == UID and request.tags["clusterctl-node"] == "cpu-1"
    assert int(request.tags[TAG_EXPIRES]) > START + SPEC["orphan_timeout"]
    assert request.bootstrap["join_token"].endswith(request.token)
    assert stage.journal.join_secret_hash("cpu-1") and "secret of" not in stage.journal.join_secret_hash("cpu-1")


def test_each_pool_is_made_by_its_own_provider_also_after_it_left_the_spec(stage: Stage) -> None:
    other = stage.open_cloud("other", [])
    pools = [PoolRequest("cpu", SPEC), PoolRequest("gpu", {**SPEC, "provider": "other"})]
    stage.provisioner = stage.open({"fake": stage.cloud, "other": other}, pools)
    stage.apply(launch("cpu-1"), launch("gpu-1"))
    assert (len(stage.living()), len(stage.living(other))) == (1, 1)
    restarted = stage.open({"fake": stage.cloud, "other": other}, [PoolRequest("cpu", SPEC)])
    restarted.down()
    assert stage.living() == stage.living(other) == []


def test_sold_out_hardware_is_blocked_for_all_its_pools_and_the_record_ends(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "no_capacity", "offer": "*/za"})
    bad, good = stage.apply(launch("cpu-1"), launch("cpu-2", of=offer(zone="zb")))
    assert (bad.ok, bad.code, good.ok) == (False, "no_capacity", True) and "try another" in bad.error
    assert bad.node and bad.node.state is NodeState.GONE and list(stage.journal.nodes()) == ["cpu-2"]
    keys = {block.offer_key for block in stage.provisioner.blocks(stage.now)}
    assert keys == {"cpu/small/on-demand/za", "gpu/small/on-demand/za"}
    assert stage.provisioner.blocks(stage.now + 121) == ()


def test_blocks_grow_with_each_refusal_and_outlive_a_restart(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "no_capacity"})
    stage.apply(launch("cpu-1"))
    stage.now += 130
    stage.apply(launch("cpu-2"))
    restarted = stage.open({"fake": stage.cloud})
    assert {block.until - stage.now for block in restarted.blocks(stage.now)} == {240.0}


def test_a_quota_blocks_its_type_for_long_and_is_named(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "quota", "limit": 1, "quota": "Running L4"})
    first, second = stage.apply(launch("cpu-1"), launch("cpu-2"))
    assert first.ok and second.code == "quota_exceeded" and "Running L4" in second.error
    (block,) = stage.provisioner.blocks(stage.now)
    assert block.offer_key == "cpu/small/on-demand/" and block.until == stage.now + 3600


def test_a_throttled_launch_waits_as_long_as_the_provider_says_and_is_made_once(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "throttled", "call": "create", "times": 1, "retry_after": 7})
    (outcome,) = stage.apply(launch())
    assert outcome.code == "throttled" and stage.journal.nodes()["cpu-1"].state is NodeState.PLANNED
    assert stage.provisioner.wake_at() == stage.now + 7 and stage.provisioner.resume() == []
    stage.now += 7
    (outcome,) = stage.provisioner.resume()
    assert outcome.ok and outcome.action is None and len(stage.living()) == 1
    assert stage.provisioner.wake_at() is None


@pytest.mark.parametrize(("kind", "made"), [("lost_call", 0), ("lost_answer", 1)])
def test_an_unknown_outcome_keeps_the_intent_and_the_same_token_is_tried_again(
    set_stage: SetStage, kind: str, made: int
) -> None:
    stage = set_stage({"kind": kind, "call": "create", "times": 1})
    (outcome,) = stage.apply(launch())
    assert outcome.code == "unknown_outcome" and len(stage.living()) == made
    stage.now += 3
    stage.provisioner.resume()
    tokens = [call["tokens"] for call in stage.calls("create")]
    assert tokens == [[launch().token]] * 2 and len(stage.living()) == 1
    assert stage.journal.nodes()["cpu-1"].instance_id == stage.living()[0]


@pytest.mark.parametrize(
    "answer",
    [lambda requests: [], lambda requests: 1 / 0, lambda requests: (_ for _ in ()).throw(UnknownOutcome("timed out"))],
    ids=["short", "fault", "timeout"],
)
def test_a_call_that_breaks_off_leaves_every_outcome_unknown(stage: Stage, answer: Callable[..., Any]) -> None:
    record(stage, answer)
    outcomes = stage.apply(launch("cpu-1"), launch("cpu-2"))
    assert [outcome.code for outcome in outcomes] == ["unknown_outcome"] * 2
    assert {node.state for node in stage.journal.nodes().values()} == {NodeState.REQUESTED}


def test_a_half_made_instance_that_a_list_shows_is_finished_by_the_same_create(stage: Stage) -> None:
    record(stage, lambda requests: stage.cloud.create(requests) and [])
    stage.apply(launch())
    stage.provisioner.observe()
    assert stage.journal.nodes()["cpu-1"].instance_id, "the list has shown its id"
    restarted = stage.open({"fake": stage.cloud})
    assert [outcome.ok for outcome in restarted.resume()] == [True] and len(stage.calls("create")) == 2
    assert restarted.resume() == []


def test_a_launch_whose_instance_ended_before_the_answer_came_is_not_made_again(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "lost_answer", "call": "create", "times": 1}, {"kind": "spot_loss", "after": 0})
    stage.apply(launch())
    stage.now += 30
    (outcome,) = stage.provisioner.resume()
    assert outcome.code == "instance_ended" and stage.journal.nodes() == {} and stage.living() == []


def test_a_launch_of_an_older_generation_is_refused_and_the_rest_goes_on(stage: Stage) -> None:
    stage.apply(launch("cpu-1", generation=2))
    refused, made = stage.apply(launch("cpu-1", generation=1), launch("cpu-2"))
    assert (refused.ok, made.ok) == (False, True) and "plan again" in refused.error
    assert len(stage.living()) == 2


def test_an_end_is_journalled_carried_out_and_not_repeated(stage: Stage) -> None:
    stage.apply(launch())
    (instance_id,) = stage.living()
    stage.provisioner.observe()
    assert stage.end("cpu-1", instance_id).ok
    assert stage.journal.nodes()["cpu-1"].state is NodeState.TERMINATING and stage.living() == []
    assert stage.provisioner.resume() == [] and len(stage.calls("terminate")) == 1


def test_what_failed_together_does_not_come_back_together() -> None:
    retries = Retries()
    keys = [f"i-{n}" for n in range(50)]
    for key in keys:
        retries.wait_longer(key, 100.0)
    times = {retries.at(key) for key in keys}
    assert len(times) > 40 and min(times) >= 102.0 and max(times) <= 102.0 + 2.0 * SPREAD


def test_an_end_that_failed_is_tried_again_with_growing_pauses(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "throttled", "call": "terminate", "times": 2})
    stage.apply(launch())
    (instance_id,) = stage.living()
    stage.provisioner.observe()
    assert stage.end("cpu-1", instance_id).code == "throttled"
    for pause in (2, 4):
        stage.provisioner.observe()
        at = stage.provisioner.wake_at()
        assert at is not None and pause <= at - stage.now <= pause * (1 + SPREAD) and stage.provisioner.resume() == []
        stage.now = at
        stage.provisioner.resume()
    assert stage.living() == [] and len(stage.calls("terminate")) == 3


def test_an_end_planned_for_another_instance_of_the_node_is_refused(stage: Stage) -> None:
    stage.apply(launch())
    stage.provisioner.observe()
    outcome = stage.end("cpu-1", "i-of-an-older-generation")
    assert outcome.code == "stale_plan" and len(stage.living()) == 1
    assert stage.journal.nodes()["cpu-1"].state is not NodeState.TERMINATING


@pytest.mark.parametrize("event", ["requested", "running"])
def test_a_mark_that_its_node_has_overtaken_changes_nothing(stage: Stage, event: str) -> None:
    stage.apply(launch())
    (instance_id,) = stage.living()
    stage.journal.move("cpu-1", "joined", stage.now, "its agent dialled in", "joined")
    (outcome,) = stage.apply(Mark("cpu-1", event, REASON, instance_id))
    assert outcome.code == "stale_plan" and stage.journal.nodes()["cpu-1"].state is NodeState.JOINING


def test_what_has_an_owner_or_was_never_seen_with_our_uid_is_not_ended_as_an_orphan(stage: Stage) -> None:
    stage.apply(launch())
    stage.provisioner.observe()
    (instance_id,) = stage.living()
    assert stage.end("", instance_id).code == stage.end("", "i-of-somebody-else").code == "stale_plan"
    assert stage.calls("terminate") == []


def test_an_orphan_with_our_uid_is_ended(stage: Stage) -> None:
    stage.provisioner.observe()
    record(stage, lambda requests: stage.cloud.create(requests))
    stage.apply(launch())
    stage.journal.move("cpu-1", "gone", stage.now)
    stage.provisioner.observe()
    (instance_id,) = stage.living()
    assert stage.end("", instance_id).ok and stage.living() == []


def test_sightings_last_until_a_complete_list_lacks_them(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "partial_list", "from": 10, "until": 20})
    stage.apply(launch())
    (instance_id,) = stage.living()
    for _ in range(2):
        stage.provisioner.observe()
    assert stage.provisioner.sightings[instance_id] == 2
    stage.now = START + 15
    assert not any(scope.complete for scope in stage.provisioner.observe())
    assert stage.provisioner.sightings[instance_id] == 2
    stage.cloud.terminate([instance_id])
    stage.now = START + 25
    stage.provisioner.observe()
    assert instance_id not in stage.provisioner.sightings


def test_a_provider_that_cannot_be_listed_is_incomplete_and_not_empty(stage: Stage) -> None:
    class Broken(Recording):
        def list(self) -> Any:
            raise OSError("no route to host")

    stage.provisioner = stage.open({"broken": Broken.around(stage.cloud, stage)})
    scopes = stage.provisioner.observe()
    assert scopes and all(not scope.complete and "no route to host" in scope.error for scope in scopes)


def test_drains_marks_and_undrains_change_the_record_and_an_illegal_one_is_an_outcome(stage: Stage) -> None:
    stage.apply(launch())
    stage.journal.move("cpu-1", "joined", stage.now)
    stage.journal.move("cpu-1", "ready", stage.now)
    drained, back, gone = stage.apply(Drain("cpu-1", REASON), Undrain("cpu-1", REASON), Mark("cpu-1", "gone", REASON))
    states = [outcome.node.state for outcome in (drained, back, gone) if outcome.node]
    assert states == [NodeState.DRAINING, NodeState.READY, NodeState.GONE]
    late, unknown = stage.apply(Drain("cpu-1", REASON), Drain("cpu-9", REASON))
    assert not late.ok and not unknown.ok and "no such node" in unknown.error


def test_the_remains_of_a_gone_instance_are_cleared_away(set_stage: SetStage) -> None:
    stage = set_stage(linger=100)
    stage.apply(launch())
    (instance_id,) = stage.living()
    stage.cloud.terminate([instance_id])
    stage.provisioner.observe()
    stage.apply(Mark("cpu-1", "gone", REASON))
    assert [call["ids"] for call in stage.calls("terminate")] == [[instance_id]] * 2


def test_an_end_before_its_instance_is_known_is_carried_out_once_it_shows_up(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "lost_answer", "call": "create"}, {"kind": "stale_list", "seconds": 20})
    stage.apply(launch())
    assert stage.end("cpu-1", "").ok and stage.calls("terminate") == []
    stage.now += 25
    stage.provisioner.observe()
    stage.provisioner.resume()
    assert len(stage.calls("terminate")) == 1
    stage.now += 25  # the list lags for twenty seconds
    assert stage.living() == []


def test_a_restarted_executor_takes_up_what_the_journal_left_open(stage: Stage) -> None:
    stage.apply(launch("cpu-2"))
    stage.provisioner.observe()
    stage.journal.intend(launch("cpu-1"), stage.now)
    stage.journal.move("cpu-2", "terminate", stage.now)
    restarted: Provisioner = stage.open({"fake": stage.cloud})
    restarted.observe()
    outcomes = restarted.resume()
    assert sorted(outcome.node.id for outcome in outcomes if outcome.node) == ["cpu-1", "cpu-2"]
    assert [node.id for node in stage.journal.nodes().values() if node.instance_id in stage.living()] == ["cpu-1"]


def test_reasons_travel_into_the_story(stage: Stage) -> None:
    stage.apply(launch())
    stage.apply(Terminate("cpu-1", "", Reason("idle", "nothing has run on it for 300 s")))
    story = stage.journal.story("cpu-1")
    assert story[0]["reason"] == "a job waits for it" and story[-1]["code"] == "idle"
