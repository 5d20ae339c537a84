"""The contract of `clusterctl_providers.base`, which every provider passes."""

from __future__ import annotations

import math
import threading
import uuid

import pytest
from clusterctl_providers.base import TAG_CLUSTER, TAG_NODE, TAG_UID, HasClusters, HasConsole, HasStop, Provider
from clusterctl_providers.wrapper import ABILITIES, Wrapper, members

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance
from clusterctl.spec.providers.registry import KINDS
from tests.contract.worlds import World
from tests.support.cluster import wait_until


class Untouched(Wrapper):
    """Changes nothing."""


def test_it_is_a_provider_and_names_its_scopes(world: World) -> None:
    provider = world.provider()
    assert isinstance(provider, Provider)
    assert provider.name == world.provider_name
    assert [scope.scope for scope in provider.list()] == list(provider.scopes)


def test_it_says_how_far_its_lists_lag_how_long_a_launch_may_take_and_how_long_offers_are_good(world: World) -> None:
    provider = world.provider()
    provider.offers(world.pool)
    for seconds in (provider.settle_seconds, provider.in_flight_seconds, provider.offers_last):
        assert isinstance(seconds, float) and 0.0 <= seconds < math.inf


def test_a_wrapper_of_it_is_able_to_do_the_same_and_says_the_same(world: World) -> None:
    provider = world.provider()
    wrapper = Untouched.around(provider)
    assert [a for a in ABILITIES if isinstance(wrapper, a)] == [a for a in ABILITIES if isinstance(provider, a)]
    for name in members(Provider).union(*(members(ability) for ability in ABILITIES if isinstance(provider, ability))):
        assert getattr(wrapper, name) == getattr(provider, name), name


def test_it_needs_no_setting_that_a_user_cannot_write(world: World) -> None:
    KINDS[world.provider_name].settings.model_validate(world.settings())


def test_a_new_cluster_has_an_empty_and_complete_list(world: World) -> None:
    assert world.living(world.provider()) == {}


def test_an_offer_says_what_a_node_will_have_and_cost(world: World) -> None:
    provider = world.provider()
    offers = provider.offers(world.pool)
    assert offers and offers == provider.offers(world.pool)
    for offer in offers:
        assert offer.pool == "cpu" and offer.resources.get("CPU") == 1 and offer.price >= 0 and offer.price_source


def test_the_same_token_twice_is_one_instance(world: World) -> None:
    provider = world.provider()
    (first,), (second,) = world.create(provider, "cpu-1"), world.create(provider, "cpu-1")
    assert first.id == second.id
    world.listed(provider, first.id)


def test_the_same_token_twice_in_one_call_is_one_instance(world: World) -> None:
    provider = world.provider()
    first, second = world.create(provider, "cpu-1", "cpu-1")
    assert first.id == second.id
    world.listed(provider, first.id)


def test_two_callers_with_the_same_token_at_once_make_one_instance(world: World) -> None:
    providers = [world.provider() for _ in range(4)]
    made: list[Instance] = []
    threads = [threading.Thread(target=lambda p=p: made.extend(world.create(p, "cpu-1", "cpu-2"))) for p in providers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 8 and len({instance.id for instance in made}) == 2
    world.listed(providers[0], *{instance.id for instance in made})


def test_an_answer_that_was_lost_is_found_again_by_token_and_by_tags(world: World) -> None:
    world.create(world.provider(), "cpu-1")  # the caller dies here, without having read the answer
    later = world.provider()
    (found,) = wait_until(lambda: list(world.living(later).values()), what="the instance in the list")
    assert (found.node_id, found.generation, found.uid) == ("cpu-1", 1, world.uid)
    assert world.create(later, "cpu-1")[0].id == found.id


def test_the_next_generation_of_a_node_is_another_instance(world: World) -> None:
    provider = world.provider()
    (first,) = world.create(provider, "cpu-1")
    (second,) = provider.create([world.request(provider, "cpu-1", generation=2)])
    assert isinstance(second, Instance) and second.id != first.id and second.generation == 2


def test_a_list_shows_every_instance_with_its_tags(world: World) -> None:
    provider = world.provider()
    names = [f"cpu-{n}" for n in range(1, world.many + 1)]
    made = world.create(provider, *names)
    shown = world.listed(provider, *(instance.id for instance in made))
    assert {i.node_id for i in shown.values()} == set(names)
    for instance in shown.values():
        tags = dict(instance.tags)
        assert (tags[TAG_UID], tags[TAG_NODE]) == (world.uid, instance.node_id) and tags[TAG_CLUSTER]
        assert instance.created > 0 and instance.zone and instance.instance_type and instance.market == "on-demand"


def test_instances_get_to_run_and_have_an_address(world: World) -> None:
    provider = world.provider()
    (made,) = world.create(provider, "cpu-1")
    wait_until(lambda: world.living(provider)[made.id].state == "running", what="the instance running")
    assert world.living(provider)[made.id].address


def test_a_list_that_is_not_complete_says_so_and_why(world: World) -> None:
    provider = world.provider()
    world.create(provider, "cpu-1", "cpu-2")
    with world.half_blind() as blind:
        scopes = blind.list()
        assert any(not scope.complete and scope.error for scope in scopes)
        assert [scope.scope for scope in scopes] == list(provider.scopes)
    assert all(scope.complete for scope in provider.list())


def test_a_look_up_by_id_says_what_the_list_says_and_nothing_of_what_never_was(world: World) -> None:
    provider = world.provider()
    first, second = world.create(provider, "cpu-1", "cpu-2")
    shown = world.listed(provider, first.id, second.id)
    found = provider.look_up([second.id, "never-was", first.id])
    assert set(found) == {first.id, second.id} and provider.look_up([]) == {}
    for instance in found.values():
        listed = shown[instance.id]
        assert (instance.uid, instance.node_id, instance.generation) == (world.uid, listed.node_id, listed.generation)
        assert instance.state in ("pending", "running")
    provider.terminate([first.id])

    def is_over() -> bool:
        left = provider.look_up([first.id, second.id])
        assert left[second.id].state in ("pending", "running")
        return first.id not in left or left[first.id].state == "terminated"

    wait_until(is_over, what="its end, by id")


def test_a_look_up_never_takes_anothers_instance_for_ours(world: World) -> None:
    other = str(uuid.uuid4())
    (theirs,) = world.create(world.provider(other), "cpu-1", uid=other)
    found = world.provider().look_up([theirs.id])
    assert theirs.id not in found or found[theirs.id].uid == other


def test_a_look_up_that_cannot_be_made_is_an_error_and_not_an_absence(world: World) -> None:
    provider = world.provider()
    (made,) = world.create(provider, "cpu-1")
    with world.half_blind() as blind:
        try:
            found = blind.look_up([made.id])
        except ProviderError as error:
            assert str(error)
        else:
            assert made.id in found


def test_terminate_ends_what_it_is_told_and_nothing_else(world: World) -> None:
    provider = world.provider()
    kept, ended = world.create(provider, "cpu-1", "cpu-2")
    provider.terminate([ended.id])
    world.listed(provider, kept.id)


def test_terminate_twice_or_of_what_never_was_is_success(world: World) -> None:
    provider = world.provider()
    (made,) = world.create(provider, "cpu-1")
    provider.terminate([made.id])
    provider.terminate([made.id])
    world.none_left(provider)
    world.provider().terminate([made.id, "never-was"])
    provider.terminate([])


def test_an_end_comes_true_or_is_a_typed_error_and_can_be_asked_for_again(world: World) -> None:
    provider = world.provider()
    (made,) = world.create(provider, "cpu-1")
    with world.half_blind() as blind:
        try:
            blind.terminate([made.id])
            refused = False
        except ProviderError as error:
            assert str(error)
            refused = True
    if refused:
        provider.terminate([made.id])
    wait_until(lambda: made.id not in world.living(provider), what="its end")


def test_a_token_whose_instance_has_ended_is_used_up(world: World) -> None:
    provider = world.provider()
    (made,) = world.create(provider, "cpu-1")
    provider.terminate([made.id])
    world.none_left(provider)
    (again,) = provider.create([world.request(provider, "cpu-1")])
    assert isinstance(again, ProviderError) or again.state in ("stopping", "terminated")
    world.none_left(provider)


def test_two_clusters_neither_see_nor_end_each_others_instances(world: World) -> None:
    ours, other_uid = world.provider(), str(uuid.uuid4())
    theirs = world.provider(other_uid)
    (mine,), (other,) = world.create(ours, "cpu-1"), world.create(theirs, "cpu-1", uid=other_uid)
    assert mine.id != other.id
    world.listed(ours, mine.id)
    ours.terminate([other.id])
    world.listed(theirs, other.id)


def test_a_refused_request_is_a_typed_error_in_its_place(world: World) -> None:
    provider = world.provider()
    with world.refusing(provider, "cpu-2") as refusing:
        (answer,) = refusing.create([world.request(provider, "cpu-2")])
    assert type(answer) is world.refusal and str(answer)
    assert world.living(provider) == {}


def test_a_provider_made_anew_knows_and_ends_its_instances(world: World) -> None:
    first = world.provider()
    ids = {instance.id for instance in world.create(first, "cpu-1", "cpu-2", "cpu-3")}
    first.close()
    second = world.provider()
    assert set(world.listed(second, *ids)) == ids
    second.terminate(sorted(ids))
    world.none_left(second)


def test_clusters_are_found_by_their_uid(world: World) -> None:
    provider = world.provider()
    if not isinstance(provider, HasClusters):
        pytest.fail("every provider can say which clusters it holds: `gc` and `list --adopt` need it")
    world.create(provider, "cpu-1", "cpu-2")
    found = {uid: (name, count) for name, uid, count in provider.find_clusters()}
    assert found[world.uid] == (f"c-{world.uid[:8]}", 2)


def test_what_is_stopped_stays_and_is_started_again_as_the_same_instance(world: World) -> None:
    provider = world.provider()
    if not isinstance(provider, HasStop):
        assert "keep_stopped" in KINDS[provider.name].foreign, "no spec may ask for what its provider cannot do"
        return
    made = world.create(provider, "cpu-1", "cpu-2")
    ids = [instance.id for instance in made]
    wait_until(lambda: all(world.living(provider)[i].state == "running" for i in ids), what="both running")
    provider.stop(ids[:1])
    provider.stop(ids[:1])
    wait_until(lambda: world.living(provider)[ids[0]].state == "stopped", what="the first one stopped")
    assert world.living(provider)[ids[1]].state == "running"
    later = world.provider()
    assert isinstance(later, HasStop)
    assert later.start(ids) == [None, None], "what runs already is started, too"
    wait_until(lambda: world.living(later)[ids[0]].state == "running", what="it runs again")
    assert world.living(later)[ids[0]].node_id == "cpu-1"
    world.listed(later, *ids)


def test_a_stopped_instance_can_be_ended_and_then_is_not_started(world: World) -> None:
    provider = world.provider()
    if not isinstance(provider, HasStop):
        assert "keep_stopped" in KINDS[provider.name].foreign
        return
    (made,) = world.create(provider, "cpu-1")
    wait_until(lambda: world.living(provider)[made.id].state == "running", what="the instance running")
    provider.stop([made.id, "never-was"])
    wait_until(lambda: world.living(provider)[made.id].state == "stopped", what="it is stopped")
    provider.terminate([made.id])
    world.none_left(provider)
    gone, never = provider.start([made.id, "never-was"])
    assert isinstance(gone, ProviderError) and isinstance(never, ProviderError)
    world.none_left(provider)


def test_the_console_of_an_unknown_instance_is_empty(world: World) -> None:
    provider = world.provider()
    assert isinstance(provider, HasConsole) and provider.console_log("never-was") == ""
