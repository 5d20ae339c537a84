"""State is disposable, and what nobody owns is found: both by the uid in the tags alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clusterctl_providers.base import CreateRequest, PoolRequest
from clusterctl_providers.fake.provider import FakeProvider

from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import NodeState
from clusterctl.provision.adopt import adopt
from clusterctl.provision.gc import Open, Stray, collect
from clusterctl.provision.journal.book import Journal
from tests.provision.stage import REASON, UID, Stage, launch, offer

OTHER = "11111111-1111-4111-8111-111111111111"


def lose_journal(stage: Stage) -> Journal:
    """The file is gone, as after `rm -rf` or on another machine."""
    stage.journal.close()
    for path in stage.directory.glob("nodes.db*"):
        path.unlink()
    stage.journal = Journal(stage.directory / "nodes.db", strict=True)
    stage.journal.acquire("after the loss")
    stage.provisioner = stage.open({"fake": stage.cloud})
    return stage.journal


def test_nodes_are_adopted_with_their_offer_token_and_price(stage: Stage) -> None:
    stage.apply(launch("cpu-1"), launch("cpu-7", generation=3))
    before = stage.journal.nodes()
    stage.now += 3600
    journal = lose_journal(stage)
    stage.provisioner.observe()
    after = journal.nodes()
    assert {k: (n.generation, n.token, n.instance_id, n.offer.key, n.spec_hash) for k, n in after.items()} == {
        k: (n.generation, n.token, n.instance_id, n.offer.key, n.spec_hash) for k, n in before.items()
    }
    assert {node.spec_hash for node in after.values()} == {"hash"}, (
        "else they would be replaced as made from another spec"
    )
    assert {node.state for node in after.values()} == {NodeState.BOOTING}
    assert journal.next_numbers() == (("cpu", 8),) and round(journal.spend(stage.now).total, 6) == 4.0


def test_a_scope_that_cannot_be_read_is_adopted_once_it_can(stage: Stage) -> None:
    stage.apply(launch("cpu-1"), launch("cpu-2", of=offer(zone="zb")))
    journal = lose_journal(stage)
    blind = stage.open_cloud("cloud", [{"kind": "partial_list", "scope": "zb", "until": 60}])
    stage.provisioner = stage.open({"fake": blind})
    stage.provisioner.observe()
    assert list(journal.nodes()) == ["cpu-1"]
    stage.now += 100
    stage.provisioner.observe()
    assert sorted(journal.nodes()) == ["cpu-1", "cpu-2"]


def test_a_journal_that_is_not_new_adopts_nothing_by_itself(stage: Stage) -> None:
    stage.provisioner.observe()
    stage.cloud.create([stage.provisioner._request(node) for node in [_planned(stage)]])
    stage.provisioner.observe()
    assert stage.journal.nodes() == {}


def _planned(stage: Stage):
    from clusterctl.provision.journal.book import planned_node

    return planned_node(launch(), stage.now)


def test_adopting_twice_or_beside_a_live_record_changes_nothing(stage: Stage) -> None:
    stage.apply(launch())
    observed = stage.provisioner.observe()
    before = stage.journal.nodes()
    adoption = adopt(stage.journal, observed, UID, stage.provisioner.offers(), stage.now)
    assert stage.journal.nodes() == before and adoption.strays == () and len(adoption.nodes) == 1


def test_of_two_generations_the_newer_is_adopted_and_the_older_named_as_stray(stage: Stage) -> None:
    stage.apply(launch(generation=1))
    stage.journal.move("cpu-1", "gone", stage.now)
    stage.apply(launch(generation=2))
    journal = lose_journal(stage)
    adoption = adopt(journal, stage.cloud.list(), UID, stage.provisioner.offers(), stage.now)
    assert journal.nodes()["cpu-1"].generation == 2
    assert [stray.generation for stray in adoption.strays] == [1]


def test_an_instance_whose_offer_is_not_in_the_spec_any_more_is_adopted_without_resources(stage: Stage) -> None:
    stage.apply(launch())
    journal = lose_journal(stage)
    adopt(journal, stage.cloud.list(), UID, (), stage.now)
    node = journal.nodes()["cpu-1"]
    assert not node.offer.resources and node.offer.price_source == "unknown" and node.offer.instance_type == "small"


# ---------------------------------------------------------------- gc


def sweep(
    stage: Stage,
    *,
    owned: set[str] | Callable[[str], bool],
    dry_run: bool = False,
    places: dict[tuple[str, str], Open] | None = None,
    faults: Sequence[dict[str, Any]] = (),
    here: str = "me@here",
) -> list[Stray]:
    return collect(
        places or {("fake", ""): lambda cluster, uid: stage.open_cloud("cloud", list(faults), uid=uid)},
        owned if callable(owned) else lambda uid: uid in owned,
        stage.now,
        dry_run=dry_run,
        clock=lambda: stage.now,
        pause=stage.pause,
        here=here,
    )


def other_cluster(stage: Stage, faults: Sequence[dict[str, Any]] = (), **more: str) -> FakeProvider:
    """Two instances of a cluster that nobody here knows, in the same cloud. `more`: further tags of ours."""
    cloud = stage.open_cloud("cloud", list(faults), uid=OTHER)
    tags = {"clusterctl-uid": OTHER, "clusterctl-cluster": "lost", "clusterctl-expires": str(int(stage.now + 50))}
    tags |= {f"clusterctl-{name}": value for name, value in more.items()}
    requests = [CreateRequest(f"token-{n}", f"cpu-{n}", 1, offer(), tags, {}, PoolRequest("cpu", {})) for n in range(2)]
    cloud.create(requests)
    return cloud


def test_gc_ends_what_no_live_cluster_owns_and_nothing_else(stage: Stage) -> None:
    stage.apply(launch())
    lost = other_cluster(stage)
    (stray,) = sweep(stage, owned={UID})
    assert (stray.cluster, stray.uid, len(stray.instance_ids), stray.removed) == ("lost", OTHER, 2, True)
    assert stage.living(lost) == [] and len(stage.living()) == 1
    assert sweep(stage, owned={UID}) == []


def test_gc_goes_by_the_uid_and_never_by_a_name(stage: Stage) -> None:
    """A living cluster, a lost one of the same name, and a machine that is called like ours and carries no uid."""
    stage.apply(launch())
    namesake = stage.open_cloud("cloud", [], uid=OTHER)
    nobodys = stage.open_cloud("cloud", [], uid="")
    for cloud, uid in ((namesake, OTHER), (nobodys, "")):
        tags = {"clusterctl-cluster": "demo", **({"clusterctl-uid": uid} if uid else {})}
        cloud.create([CreateRequest(f"token-{uid}", "cpu-1", 1, offer(), tags, {}, PoolRequest("cpu", {}))])
    (stray,) = sweep(stage, owned={UID})
    assert (stray.cluster, stray.uid, stray.removed) == ("demo", OTHER, True)
    assert len(stage.living()) == 1 and stage.living(namesake) == []
    alive = [row.token for row in nobodys._cloud.instances() if row.lives(nobodys._now())]
    assert "token-" in alive and f"token-{OTHER}" not in alive
    for cloud in (namesake, nobodys):
        cloud.close()


def test_gc_takes_half_a_list_neither_for_the_whole_nor_for_an_empty_one(stage: Stage) -> None:
    lost = other_cluster(stage)
    began = stage.now
    (stray,) = sweep(stage, owned=set(), faults=[{"kind": "partial_list", "until": 20}])
    assert stray.removed and len(stray.instance_ids) == 2 and stage.now >= began + 20
    assert stage.living(lost) == []


def test_gc_says_so_when_no_list_is_ever_whole(stage: Stage) -> None:
    other_cluster(stage)
    (stray,) = sweep(stage, owned=set(), faults=[{"kind": "partial_list"}])
    assert not stray.removed and "broke off" in stray.error and OTHER in stray.error


def test_gc_with_dry_run_tells_and_touches_nothing(stage: Stage) -> None:
    lost = other_cluster(stage)
    (stray,) = sweep(stage, owned=set(), dry_run=True)
    assert len(stray.instance_ids) == 2 and not stray.removed and not stray.expired
    assert len(stage.living(lost)) == 2
    stage.now += 60
    assert sweep(stage, owned=set(), dry_run=True)[0].expired


def test_gc_goes_on_when_one_provider_fails_and_says_so(stage: Stage) -> None:
    class Locked(FakeProvider):
        def find_clusters(self) -> list[tuple[str, str, int]]:
            raise AuthFailed("the credentials have lapsed: renew them")

    other_cluster(stage)
    places: dict[tuple[str, str], Open] = {
        ("fake", "locked"): lambda cluster, uid: Locked(stage.cloud._context),
        ("fake", "broken"): lambda cluster, uid: stage.open_cloud("cloud", [{"kind": "no such fault"}]),
        ("fake", ""): lambda cluster, uid: stage.open_cloud("cloud", [], uid=uid),
    }
    failed, broken, ended = sweep(stage, owned=set(), places=places)
    assert "renew them" in failed.error and not failed.removed
    assert "no such fault" in broken.error and not broken.removed
    assert ended.removed and not ended.error


def test_gc_asks_who_owns_an_instance_after_it_has_seen_it(stage: Stage) -> None:
    """A cluster that comes up while gc searches is noted down before it has instances: what was read before counts not."""
    lost = other_cluster(stage)
    asked: list[str] = []

    def owned(uid: str) -> bool:
        asked.append(uid)
        return len(asked) > 1  # it became known, by `list --adopt`, while its instances were looked at

    assert sweep(stage, owned=owned) == []
    assert len(stage.living(lost)) == 2 and set(asked) == {OTHER}


def test_gc_waits_for_the_head_that_the_lists_do_not_show_yet(stage: Stage) -> None:
    """Somebody else brings up a cluster: its workers are listed already, the instance with its head is not."""
    lag = [{"kind": "stale_list", "seconds": 6, "offer": "head/*"}]
    lost = other_cluster(stage)
    tags = {"clusterctl-uid": OTHER, "clusterctl-cluster": "lost", "clusterctl-head": "here"}
    head = CreateRequest("token-head", "head-1", 1, offer("head"), tags, {}, PoolRequest("head", {}))
    stage.open_cloud("cloud", lag, uid=OTHER).create([head])
    assert len(stage.living(lost)) == 2, "the lists lag"
    assert sweep(stage, owned=set(), faults=lag) == []
    assert len(stage.living(lost)) == 3


def test_gc_ends_nothing_where_the_head_may_be_in_the_half_that_is_missing(stage: Stage) -> None:
    lost = other_cluster(stage)
    began = stage.now
    (stray,) = sweep(stage, owned=set(), faults=[{"kind": "partial_list"}])
    assert not stray.removed and stage.now >= began + 60
    assert len(stage.living(lost)) == 2 and not [c for c in stage.calls("terminate") if c["ids"]]


def test_gc_leaves_to_its_machine_what_has_its_head_on_another(stage: Stage) -> None:
    lost = other_cluster(stage, maker="you@there")
    (stray,) = sweep(stage, owned=set())
    assert "you@there" in stray.spared and not stray.removed and len(stage.living(lost)) == 2
    (stray,) = sweep(stage, owned=set(), here="you@there")
    assert stray.removed and stage.living(lost) == []


def test_reasons_are_kept_when_nodes_are_adopted(stage: Stage) -> None:
    stage.apply(launch())
    journal = lose_journal(stage)
    stage.provisioner.observe()
    assert journal.nodes()["cpu-1"].code == "adopted" and REASON.text not in journal.nodes()["cpu-1"].reason
