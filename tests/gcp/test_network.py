"""The firewall rules and placement policies of a cluster: open to whom the spec names now, made once, and made again."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import HeadMachine
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.head import login_metadata
from clusterctl_providers.gcp.network import firewall
from clusterctl_providers.gcp.network.network import Network

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.parts import Parts


@pytest.fixture
def parts(cloud: GcpCloud) -> Parts:
    return Parts(cloud)


def sources(parts: Parts) -> set[str]:
    """Those that some rule lets in."""
    return {source for row in parts.rules().values() if "allowed" in row for source in row.get("sourceRanges") or ()}


# ------------------------------------------------------------ who gets in


def test_port_22_of_the_head_is_open_to_the_addresses_named_of_either_kind_and_to_nothing_else(parts: Parts) -> None:
    network = parts.network(["192.0.2.7", "198.51.100.0/24", "2001:db8::7", "2001:db8:1::/48"])
    network.renew_access()
    rules = parts.rules()
    assert set(rules) == {"inside", "ssh", "ssh6", "shut"}
    assert rules["ssh"]["sourceRanges"] == ["192.0.2.7/32", "198.51.100.0/24"]
    assert rules["ssh6"]["sourceRanges"] == ["2001:db8:1::/48", "2001:db8::7/128"]
    tag, head = network.tags(head=True)
    assert network.tags() == [tag]
    for name in ("ssh", "ssh6"):
        assert rules[name]["targetTags"] == [head]
        assert rules[name]["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    inside = rules["inside"]
    assert inside["sourceTags"] == inside["targetTags"] == [tag] and not inside.get("sourceRanges")
    assert inside["allowed"] == [{"IPProtocol": "all"}]


def test_the_heads_port_is_open_to_whom_the_spec_says_and_to_nobody_once_it_does_not(parts: Parts) -> None:
    network = parts.network(head=HeadMachine(public=True, port=7420, open_to=("0.0.0.0/0", "::/0")))
    network.renew_access()
    rules = parts.rules()
    assert set(rules) == {"inside", "agents", "agents6"}
    for name, sources_of in (("agents", ["0.0.0.0/0"]), ("agents6", ["::/0"])):
        assert rules[name]["sourceRanges"] == sources_of
        assert rules[name]["targetTags"] == [network.tags(head=True)[1]], "of the head, and of no worker"
        assert rules[name]["allowed"] == [{"IPProtocol": "tcp", "ports": ["7420"]}]
    parts.network().renew_access()
    assert set(parts.rules()) == set(rules), "who has no head's machine to launch leaves them as they are"
    parts.network(head=HeadMachine(public=True, port=7420, open_to=("203.0.113.0/24",))).renew_access()
    assert set(parts.rules()) == {"inside", "agents"} and sources(parts) == {"203.0.113.0/24"}
    parts.network(head=HeadMachine(public=True, port=7420)).renew_access()
    assert set(parts.rules()) == {"inside"}
    for _ in range(2):
        waiting = parts.network().sweep()
    assert waiting == [] and parts.rules() == {}


def test_the_rule_of_google_that_lets_everybody_in_does_not_hold_for_our_machines(parts: Parts) -> None:
    """As it is in the network `default` of every project; rules that a user has written hold before ours."""
    network = parts.network(["192.0.2.7"])
    network.renew_access()
    (shut,) = [row for row in parts.rules().values() if "denied" in row]
    assert shut["sourceRanges"] == ["0.0.0.0/0"] and shut["targetTags"] == network.tags()
    assert shut["denied"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert parts.rules()["ssh"].get("priority", 1000) < shut["priority"] < 65534, "Google's has the last number but one"
    assert network.sweep() == [] and parts.rules() == {}


def test_a_machine_whose_address_changed_is_let_in_and_its_former_address_is_not(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("203.0.113.5", "203.0.113.99"):
        monkeypatch.setattr(firewall, "own_address", lambda address=address: address)
        parts.network(["me"]).renew_access()
    assert sources(parts) == {"203.0.113.99/32"}
    changes = [*parts.methods("insert"), *parts.methods("patch")]
    assert len(changes) == 4
    parts.network(["me"]).renew_access()
    assert [*parts.methods("insert"), *parts.methods("patch")] == changes
    monkeypatch.setattr(firewall, "own_address", lambda: "2001:db8::9")
    parts.network(["me"]).renew_access()
    assert sources(parts) == {"2001:db8::9/128"} and set(parts.rules()) == {"inside", "ssh6", "shut"}
    parts.network([]).renew_access()
    assert set(parts.rules()) == {"inside", "shut"}


def test_a_head_neither_opens_nor_closes_port_22_and_needs_no_right_to(parts: Parts) -> None:
    parts.network(["192.0.2.7"]).renew_access()
    parts.cloud.world.denied = {"compute.firewalls.create", "compute.firewalls.update", "compute.firewalls.delete"}
    assert len(parts.network().tags()) == 1
    parts.cloud.world.denied = set()
    assert sources(parts) == {"192.0.2.7/32"}


def test_the_networks_own_ranges_can_be_named_by_a_word(parts: Parts) -> None:
    parts.network(["vpc"]).renew_access()
    ranges = {row["ipCidrRange"] for row in parts.rows("regions/us-central1/subnetworks")}
    assert ranges < sources(parts), "those of other regions, too"


def test_what_is_no_address_is_told_before_anything_is_opened(parts: Parts) -> None:
    with pytest.raises(BadRequest, match="no address, no network"):
        parts.network(["everywhere"]).renew_access()
    assert parts.rules() == {}


def make_key(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@here", *options, "-f", str(path)], check=True)
    return path


@pytest.mark.parametrize("options", [["-t", "ed25519"], ["-t", "rsa", "-b", "2048"]])
def test_only_the_key_of_the_spec_is_let_in_and_no_key_of_the_project(tmp_path: Path, options: list[str]) -> None:
    key = make_key(tmp_path / "key", *options)
    found = login_metadata({"key": str(key), "user": "me"}, "ubuntu")
    kind, text, _ = key.with_suffix(".pub").read_text().split()
    assert found["ssh-keys"] == f"me:{kind} {text}"
    assert (found["enable-oslogin"], found["block-project-ssh-keys"]) == ("FALSE", "TRUE")
    assert login_metadata({"key": str(key)}, "ubuntu")["ssh-keys"].startswith("ubuntu:")
    assert "ssh-keys" not in login_metadata({}, "ubuntu")


# ------------------------------------------------------------ made once, and again


def test_rules_that_somebody_deleted_or_changed_are_put_right(parts: Parts) -> None:
    network = parts.network(["192.0.2.7"])
    network.tags()
    name = parts.rules()["inside"]["name"]
    parts.calls.run("DELETE", f"global/firewalls/{name}", "deleting")
    ssh = parts.rules()["ssh"]["name"]
    changed = {"name": ssh, "disabled": True, "sourceRanges": ["0.0.0.0/0"]}
    parts.calls.run("PATCH", f"global/firewalls/{ssh}", "changing", changed)
    network.tags()
    assert set(parts.rules()) == {"ssh", "shut"}, "it was looked for a moment ago"
    parts.now += firewall.LAST + 1
    network.tags()
    rules = parts.rules()
    assert (
        set(rules) == {"inside", "ssh", "shut"}
        and sources(parts) == {"192.0.2.7/32"}
        and not rules["ssh"].get("disabled")
    )


def test_a_head_that_may_make_no_rule_names_the_permission_that_it_lacks(parts: Parts) -> None:
    parts.cloud.world.denied = {"compute.firewalls.create"}
    with pytest.raises(AuthFailed, match=r"making the firewall rule .*compute\.firewalls\.create"):
        parts.network().tags()


def test_what_another_process_was_faster_with_is_taken(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.network(["192.0.2.7"]).renew_access()
    find, looks = firewall.Firewall._find, list[str]()

    def too_early(self: Any, name: str) -> Any:
        looks.append(name)
        return find(self, name) if looks.count(name) > 1 else None

    monkeypatch.setattr(firewall.Firewall, "_find", too_early)
    parts.network(["192.0.2.7"]).renew_access()
    assert set(parts.rules()) == {"inside", "ssh", "shut"}


def test_a_rule_of_our_name_that_is_somebody_elses_is_told_and_left_alone(parts: Parts) -> None:
    network = parts.network()
    name = network.part("inside")
    body = {
        "name": name,
        "network": "global/networks/default",
        "allowed": [{"IPProtocol": "icmp"}],
        "sourceRanges": ["10.0.0.0/8"],
    }
    parts.calls.run("POST", "global/firewalls", "making", body)
    with pytest.raises(BadRequest, match=rf"a firewall rule {name} is there already, and does not carry the uid"):
        network.tags()
    assert network.sweep() == [] and set(parts.rules()) == {"inside"}


def test_the_users_own_network_tags_stand_in_place_of_rules_of_ours(parts: Parts) -> None:
    network = parts.network(["192.0.2.7"], network_tags=["corp-ray", "corp-ssh"])
    assert network.tags() == network.tags(head=True) == ["corp-ray", "corp-ssh"]
    network.renew_access()
    assert parts.methods("firewalls") == []
    parts.network(["192.0.2.7"]).renew_access()
    parts.cloud.world.denied = {"compute.firewalls.get", "compute.firewalls.list"}
    assert network.sweep() == [] and network.clusters() == [], "a shared network's are not for everybody to see"
    parts.cloud.world.denied = set()
    assert network.sweep() == [] and parts.rules() == {}, "those from before it named its own"


def test_names_that_grow_too_long_are_cut_and_stay_apart(cloud: GcpCloud) -> None:
    parts = Parts(cloud, "a" * 40)
    network = parts.network(["192.0.2.7", "2001:db8::7"])
    names = {network.name, network.part("head"), network.part("inside"), network.part("ssh"), network.part("ssh6")}
    names |= {network.placement_policy("p" * 40, zone) for zone in ("us-central1-a", "us-central1-b")}
    assert len(names) == 7 and all(re.fullmatch(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)
    network.renew_access()
    assert [name for name, _ in network.clusters()] == ["a" * 40]
    assert network.sweep() == [] and cloud.leftovers() == []


def test_a_placement_policy_is_made_once_for_a_pool_and_zone_and_made_again_where_it_was_deleted(parts: Parts) -> None:
    network = parts.network()
    name = network.placement_policy("train", "us-central1-a")
    assert network.placement_policy("train", "us-central1-a") == name
    assert parts.network().placement_policy("train", "us-central1-a") == name
    (policy,) = parts.rows("regions/us-central1/resourcePolicies")
    assert policy["groupPlacementPolicy"]["collocation"] == "COLLOCATED" and policy["name"] == name
    parts.calls.run("DELETE", f"regions/us-central1/resourcePolicies/{name}", "deleting")
    gone = BadRequest(f"the resource 'projects/p/regions/us-central1/resourcePolicies/{name}' was not found")
    assert not network.forget(gone), "it was made a moment ago"
    parts.now += 120
    assert network.forget(gone)
    network.placement_policy("train", "us-central1-a")
    assert len(parts.rows("regions/us-central1/resourcePolicies")) == 1


# ------------------------------------------------------------ where


def test_the_subnetwork_is_the_networks_in_the_region_or_the_one_that_is_named(parts: Parts) -> None:
    found = parts.network().subnet()
    assert found.url.endswith("/regions/us-central1/subnetworks/default")
    assert found.network.endswith("/global/networks/default")
    assert parts.network(subnet="default").subnet() == found
    assert parts.network(subnet=found.url).subnet() == found
    assert parts.network(network=found.network).subnet() == found
    assert parts.network().zones() == ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]


def custom_network(parts: Parts, name: str, *subnets: dict[str, Any]) -> None:
    parts.calls.run("POST", "global/networks", "making", {"name": name, "autoCreateSubnetworks": False})
    for subnet in subnets:
        body = {"network": f"projects/{parts.calls.project}/global/networks/{name}", **subnet}
        parts.calls.run("POST", "regions/us-central1/subnetworks", "making", body)


def test_of_several_subnetworks_the_largest_that_is_for_machines_is_taken(parts: Parts) -> None:
    custom_network(
        parts, "corp",
        {"name": "small", "ipCidrRange": "10.50.0.0/24"},
        {"name": "large", "ipCidrRange": "10.60.0.0/20"},
        {"name": "proxies", "ipCidrRange": "10.70.0.0/18", "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE"},
    )  # fmt: skip
    assert parts.network(network="corp").subnet().url.endswith("/large")
    with pytest.raises(BadRequest, match="is no subnetwork for machines"):
        parts.network(network="corp", subnet="proxies").subnet()


@pytest.mark.parametrize(
    ("settings", "ask", "says"),
    [
        ({"network": "nowhere"}, Network.subnet, "has no network 'nowhere'; make it"),
        ({"subnet": "nowhere"}, Network.subnet, "looking for the subnetwork nowhere in us-central1: there is none"),
        ({"region": "us-nowhere1"}, Network.zones, "Google Cloud has no region 'us-nowhere1' for the project"),
    ],
)
def test_what_google_does_not_have_is_told_with_the_setting_that_names_it(
    parts: Parts, settings: dict[str, str], ask: Callable[[Network], Any], says: str
) -> None:
    with pytest.raises(ProviderError, match=says):
        ask(parts.network(**settings))


def test_a_network_without_a_subnetwork_in_the_region_is_told_with_the_command_that_makes_one(parts: Parts) -> None:
    custom_network(parts, "corp")
    with pytest.raises(BadRequest, match=r"gcloud compute networks subnets create corp --network=corp"):
        parts.network(network="corp").subnet()


def test_a_subnetwork_that_google_no_longer_knows_is_looked_for_anew(parts: Parts) -> None:
    custom_network(parts, "corp", {"name": "one", "ipCidrRange": "10.50.0.0/24"})
    network = parts.network(network="corp")
    assert network.subnet().url.endswith("/one")
    parts.calls.run("DELETE", "regions/us-central1/subnetworks/one", "deleting")
    body = {"name": "two", "ipCidrRange": "10.51.0.0/24", "network": network.subnet().network}
    parts.calls.run("POST", "regions/us-central1/subnetworks", "making", body)
    gone = BadRequest("the resource 'projects/p/regions/us-central1/subnetworks/one' was not found")
    assert not network.forget(gone) and network.subnet().url.endswith("/one")
    parts.now += 120
    assert network.forget(gone) and network.subnet().url.endswith("/two")


class HostProject(Calls):
    """Shows the stand-in's network as if it were another project's, shared with this one."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.paths: list[tuple[str, str]] = []

    def change(self, method: str, path: str, what: str, body: Any = None, *given: Any, **more: Any) -> dict[str, Any]:
        self.paths.append((method, path))
        asked = json.loads(json.dumps([path, body]).replace("projects/host-project/", f"projects/{self.project}/"))
        answer = json.dumps(super().change(method, asked[0], what, asked[1], *given, **more))
        shared = rf"projects/{self.project}/(global/networks|regions/[a-z0-9-]+/subnetworks)/"
        found: dict[str, Any] = json.loads(re.sub(shared, r"projects/host-project/\1/", answer))
        return found


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "projects/host-project/global/networks/default"},
        {"subnet": "projects/host-project/regions/us-central1/subnetworks/default"},
    ],
)
def test_of_a_shared_network_the_subnetwork_and_the_rules_are_the_host_projects(
    parts: Parts, settings: dict[str, str]
) -> None:
    settings = {**parts.settings, **settings}
    calls = HostProject(settings)
    network = Network(calls, settings, "demo", parts.uid, ["192.0.2.7"])
    assert network.interface(public=False) == {
        "subnetwork": "projects/host-project/regions/us-central1/subnetworks/default"
    }
    network.renew_access()
    policy = network.placement_policy("train", "us-central1-a")
    made = [path for method, path in calls.paths if method == "POST" and not path.endswith("/wait")]
    assert set(made) == {"projects/host-project/global/firewalls", "regions/us-central1/resourcePolicies"}
    assert network.sweep() == [] and parts.cloud.leftovers() == []
    gone = [path for method, path in calls.paths if method == "DELETE"]
    assert f"regions/us-central1/resourcePolicies/{policy}" in gone and len(gone) == 4
    assert all("host-project" in path for path in gone if "firewalls" in path)


# ------------------------------------------------------------ leftovers


def test_the_rules_of_a_cluster_in_another_region_are_none_of_a_cluster_here(parts: Parts) -> None:
    there = parts.network(region="europe-west4")
    there.tags()
    assert parts.network().clusters() == []
    assert there.clusters() == [("demo", parts.uid)]


def test_what_is_in_use_waits_and_is_named(parts: Parts) -> None:
    network = parts.network()
    fault = parts.cloud.fault(
        "compute.firewalls.delete",
        code="resourceInUseByAnotherResource",
        status=400,
        message="is already being used by",
        times=None,
    )
    network.tags()
    assert network.sweep() == [f"the firewall rule {network.part('inside')} is still in use"]
    parts.cloud.world.faults.remove(fault)
    assert network.sweep() == [] and parts.cloud.leftovers() == []
