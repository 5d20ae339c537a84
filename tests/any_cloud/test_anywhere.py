"""A cluster that may be anywhere: what makes `up` pass a place over, and that nothing of it is left there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.client.down import adopt as adopting
from clusterctl.client.down import take_down as takedown
from clusterctl.client.down.places import places
from clusterctl.client.specfile import read_places
from clusterctl.client.up import cloud_login
from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.core.errors import ClusterctlError, Refused, UsageError
from tests.any_cloud.anywhere import AWS, GOOGLE, LOGIN, Clouds, Home, clouds
from tests.cloud.gcp.world import PROJECT

READS = ("Describe", "Get", "List", "Simulate")


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    monkeypatch.setattr(cloud_login, "FIRST_LOGIN_SECONDS", 0.5)
    with clouds() as both:
        yield both
        for name in (AWS, GOOGLE):
            assert both.left(name) == [], name


@pytest.fixture
def home(both: Clouds, tmp_path: Path) -> Home:
    return Home(tmp_path, both)


def told(home: Home, text: str) -> list[str]:
    return [line for line in home.said if text in line]


def comes_up_in(home: Home, name: str, start: str = "") -> None:
    """All its machines are there, and none elsewhere."""
    with pytest.raises(ClusterctlError, match=LOGIN):
        home.up(start)
    both = home.both
    assert both.machines(name) == {AWS: ["t3.large", "t3.micro", "t3.micro"]}.get(
        name, ["e2-medium"] * 2 + ["e2-standard-2"]
    )
    assert all(both.left(other) == [] for other in (AWS, GOOGLE) if other != name)
    assert home.cluster.place == name and home.cluster.trying


def test_the_first_place_is_taken_where_it_has_everything(home: Home) -> None:
    comes_up_in(home, AWS)
    assert not told(home, "passed over")
    home.down()


@pytest.mark.parametrize("what", ["head", "cpu"])
def test_a_place_that_lacks_a_machine_is_passed_over_and_nothing_is_left_there(home: Home, what: str) -> None:
    home.both.sold_out(AWS, what)
    comes_up_in(home, GOOGLE)
    (why,) = told(home, "passed over")
    assert why.startswith(f"{AWS} is passed over: ") and "no capacity" in why
    assert ("2 nodes of pool cpu" in why) == (what == "cpu")
    assert told(home, f"nothing is left in {AWS}") and home.said.index(
        told(home, "nothing is left")[0]
    ) < home.said.index(told(home, f"trying {GOOGLE}")[0])
    home.down()


def test_a_pool_that_gets_some_of_its_min_and_no_more_is_not_had(home: Home) -> None:
    home.both.aws.world.capacity["t3.micro/*/*"] = 1
    comes_up_in(home, GOOGLE)
    assert told(home, "1 of 2 nodes of pool cpu")
    home.down()


def test_capacity_in_another_zone_is_tried_before_another_place(home: Home) -> None:
    for zone in "ab":
        home.both.aws.world.capacity[f"t3.micro/us-east-1{zone}/*"] = 0
    comes_up_in(home, AWS)
    home.down()


def test_where_no_place_has_it_each_is_told_with_its_reason_and_nothing_is_left(home: Home) -> None:
    home.both.sold_out(AWS, "cpu")
    home.both.sold_out(GOOGLE, "head")
    with pytest.raises(NotToBeHad) as caught:
        home.up()
    first, amazon, *_ = str(caught.value).splitlines()
    assert first == "no place has what cluster 'demo' needs at this moment; nothing of it is left in any"
    assert amazon.startswith(f"  {AWS}: AWS has 0 of 2 nodes of pool cpu: ")
    assert f"\n  {GOOGLE}: no machine for the head of cluster 'demo'" in str(caught.value)
    assert home.registry.names() == [], "and nothing is known of it"


def test_credentials_that_are_not_accepted_pass_a_place_over_before_anything_is_made(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    comes_up_in(home, GOOGLE)
    monkeypatch.undo()
    (why,) = told(home, "passed over")
    assert why.startswith(f"{AWS} is passed over: no credentials that AWS accepts: ")
    assert not [a for a in home.both.aws.world.actions() if not a.partition(":")[2].startswith(READS)]
    assert not told(home, "removing"), "there was nothing to remove"
    home.down()


def test_a_quota_that_is_too_small_passes_a_place_over_before_anything_is_made(both: Clouds, tmp_path: Path) -> None:
    home = Home(tmp_path, both, GOOGLE, AWS)
    both.google.world.quotas["E2_CPUS"] = 1.0
    both.google.world.quotas["CPUS"] = 1.0
    comes_up_in(home, AWS)
    (why,) = told(home, "passed over")
    assert "no quota " in why and f"quotas?project={PROJECT}" in why
    assert not [a for a in both.google.world.actions() if a.endswith((".insert", ".bulkInsert"))]
    home.down()


def test_what_a_place_does_not_have_is_told_with_its_line_and_passes_it_over(both: Clouds, tmp_path: Path) -> None:
    both.places[AWS] = both.places[AWS].replace(both.aws.vpc, "vpc-0123456789abcdef0")
    home = Home(tmp_path, both)
    comes_up_in(home, GOOGLE)
    assert "vpc-0123456789abcdef0" in told(home, "passed over")[0]
    home.down()


def test_a_removal_that_is_not_proven_ends_the_search(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takedown, "PATIENCE", 0.5)
    home.both.sold_out(AWS, "cpu")

    def hear(line: str) -> None:
        if line.startswith("removing"):
            home.both.aws.fault("TerminateInstances", times=None)

    with pytest.raises(ClusterctlError, match="no other place is tried while something is left") as caught:
        home.up(tell=hear)
    assert "clusterctl down" in str(caught.value)
    assert home.both.machines(GOOGLE) == [] and home.both.machines(AWS) == ["t3.large"]
    home.both.aws.world.faults.clear()
    comes_up_in(home, GOOGLE)
    assert told(home, "is finished first")
    home.down()


def test_an_up_goes_on_in_the_place_that_an_earlier_one_tried(home: Home) -> None:
    home.both.sold_out(AWS, "cpu")
    comes_up_in(home, GOOGLE)
    uid = home.cluster.uid
    home.both.aws.world.capacity.clear()
    comes_up_in(home, GOOGLE)
    assert home.cluster.uid == uid and told(home, f"{GOOGLE} was being tried by an earlier `up`, which goes on")
    home.down()


def test_where_the_begun_place_turns_out_to_lack_something_the_others_are_tried(home: Home) -> None:
    home.both.sold_out(AWS, "cpu")
    comes_up_in(home, GOOGLE)
    home.both.aws.world.capacity.clear()
    client = home.both.google.client()
    for machine in home.both.google.instances():  # somebody takes all of them away
        client.instances().delete(project=PROJECT, zone=machine.zone, instance=machine.name).execute()
    home.both.sold_out(GOOGLE, "head")
    home.both.sold_out(GOOGLE, "cpu")
    comes_up_in(home, AWS)
    home.down()


def test_a_begun_place_that_is_listed_no_more_is_left_first(home: Home) -> None:
    comes_up_in(home, AWS)
    home.write(GOOGLE)
    comes_up_in(home, GOOGLE)
    assert told(home, f"{AWS} is passed over: it was tried by an earlier `up`, and is none of the places for this one")
    home.down()


def test_a_cluster_that_was_had_stays_whatever_the_list_says_by_then(home: Home) -> None:
    comes_up_in(home, AWS)
    home.registry.settle(home.cluster)
    uid = home.cluster.uid
    home.write(GOOGLE, AWS)
    with pytest.raises(ClusterctlError, match=LOGIN):
        home.up()
    assert told(home, f"cluster demo is in {AWS} and stays there; to have it elsewhere, `clusterctl down demo` first")
    home.write(GOOGLE)
    with pytest.raises(
        Refused, match=rf"is in {AWS} and stays there, but .*cluster.yaml lists that no more: to have it"
    ):
        home.up()
    home.write()
    with pytest.raises(Refused, match="`--place gcp` asks for another"):
        home.up("gcp")
    assert home.cluster.uid == uid and home.both.machines(GOOGLE) == []
    home.down()


def test_a_cluster_that_was_had_is_not_moved_for_want_of_capacity(home: Home) -> None:
    comes_up_in(home, AWS)
    home.registry.settle(home.cluster)
    ids = [i.id for i in home.both.aws.instances()]
    home.both.aws.client().terminate_instances(InstanceIds=ids)
    home.both.sold_out(AWS, "head")
    with pytest.raises(NotToBeHad, match="no machine for the head"):
        home.up()
    assert home.registry.names() == ["demo"] and home.both.machines(GOOGLE) == []
    home.down()


def test_one_place_in_the_spec_of_a_cluster_that_is_elsewhere_is_refused(home: Home) -> None:
    """Whoever wrote one provider over another would leave what runs behind, with nobody to end it."""
    comes_up_in(home, AWS)
    text = home.path.read_text()
    home.path.write_text(text.replace(home.both.places[AWS], "").replace("  - \n", "").replace("  - gcp", "    gcp"))
    with pytest.raises(Refused, match=rf"is in {AWS}, and the spec wants it in {GOOGLE}: a cluster stays where it is"):
        home.up()
    assert home.both.machines(AWS) and home.both.machines(GOOGLE) == []
    home.down()


def test_a_user_may_name_the_place_or_the_cloud(home: Home) -> None:
    comes_up_in(home, GOOGLE, "gcp")
    home.down()
    comes_up_in(home, AWS, AWS)
    home.down()
    with pytest.raises(UsageError, match=f"--place azure: .* names no such place; there is {AWS}, {GOOGLE}"):
        home.up("azure")


def test_what_a_lost_home_was_trying_is_found_in_each_place_of_the_spec_and_ended(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {AWS.split("/")[0], GOOGLE.split("/")[0]}  # others' things may lie on this machine for a moment
    monkeypatch.setattr(adopting, "places", lambda *given: [one for one in places(*given) if one.provider in only])
    home.both.sold_out(AWS, "cpu")
    comes_up_in(home, GOOGLE)
    home.registry.forget(home.cluster)
    ((found,), _) = adopting.adopt_clusters(home.registry, read_places(home.path), str(tmp_path / "scratch"))
    assert found.adopted and found.instances == 3
    assert home.cluster.place == GOOGLE and not home.cluster.trying, "nobody here knows that it was not there yet"
    home.down()
