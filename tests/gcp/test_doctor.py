"""`doctor` names each permission that is missing, and no other; and what else stands in the way of a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.gcp.doctor import OPTIONAL
from clusterctl_providers.gcp.provider import GcpProvider
from clusterctl_providers.gcp.roles import permissions_of

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION

NEEDED = (permissions_of("client") | permissions_of("accounts")) - OPTIONAL
PERMISSION = "permission "


def provider(cloud: GcpCloud, tmp_path: Any, **settings: Any) -> GcpProvider:
    given = {"project": PROJECT, "region": REGION, "endpoint_url": cloud.url, "calls_per_second": 500.0, **settings}
    return GcpProvider(ProviderContext("demo", "5f3a" * 8, str(tmp_path), given, {}, None))


def rows(cloud: GcpCloud, tmp_path: Any, **settings: Any) -> list[tuple[str, bool, str]]:
    """Of a project that may have GPUs: a new one may have none."""
    cloud.world.quotas["GPUS_ALL_REGIONS"] = 8.0
    return provider(cloud, tmp_path, **settings).doctor()


def failed(found: Sequence[tuple[str, bool, str]]) -> dict[str, str]:
    return {what: fix for what, ok, fix in found if not ok}


def test_all_that_the_roles_allow_is_asked_for(cloud: GcpCloud, tmp_path: Any) -> None:
    found = rows(cloud, tmp_path)
    assert failed(found) == {}
    assert {what.removeprefix(PERMISSION) for what, _, _ in found if what.startswith(PERMISSION)} == NEEDED
    assert (
        found[0][0]
        == f"Google Cloud knows us as admin@{PROJECT}.iam.gserviceaccount.com in the project {PROJECT}, {REGION}"
    )


def test_each_missing_permission_is_named_alone_with_the_role_that_has_it(cloud: GcpCloud, tmp_path: Any) -> None:
    for permission in sorted(NEEDED):
        cloud.world.denied = {permission}
        found = failed(rows(cloud, tmp_path))
        assert list(found) == [f"{PERMISSION}{permission}"], found
        role = "accounts" if permission in permissions_of("accounts") else "client"
        assert (
            permission in found[f"{PERMISSION}{permission}"]
            and f"clusterctl_{role}" in found[f"{PERMISSION}{permission}"]
        )
    cloud.world.denied = set(OPTIONAL)
    assert failed(rows(cloud, tmp_path)) == {}


@pytest.mark.parametrize("names", [("client", "accounts"), ("client",)])
def test_the_roles_as_they_are_printed_satisfy_doctor(cloud: GcpCloud, tmp_path: Any, names: Sequence[str]) -> None:
    """With accounts of one's own, `client` is enough."""
    permissions = frozenset[str]().union(*map(permissions_of, names))
    given = {} if "accounts" in names else {"service_account": f"mine@{PROJECT}.iam.gserviceaccount.com"}
    cloud.add_account("mine", "compute.zones.list")
    with cloud.credentials(cloud.add_account("who", *permissions)):
        assert failed(rows(cloud, tmp_path, **given)) == {}


def test_what_a_way_to_the_head_needs_is_in_a_role_of_its_own(cloud: GcpCloud, tmp_path: Any) -> None:
    with cloud.credentials(cloud.add_account("who", *permissions_of("client"), *permissions_of("accounts"))):
        ((what, fix),) = failed(rows(cloud, tmp_path, reach="iap")).items()
    assert what == "permission iap.tunnelInstances.accessViaIAP" and "clusterctl_iap" in fix
    cloud.world.disabled_services = {"iap.googleapis.com"}
    ((what, fix),) = failed(rows(cloud, tmp_path, reach="iap")).items()
    assert what == "API iap.googleapis.com" and f"gcloud services enable iap.googleapis.com --project {PROJECT}" in fix
    assert failed(rows(cloud, tmp_path)) == {}, "another way does not need it"


def test_an_account_that_is_named_is_asked_for_the_right_to_act_as_it(cloud: GcpCloud, tmp_path: Any) -> None:
    email = f"mine@{PROJECT}.iam.gserviceaccount.com"
    cloud.add_account("mine", "compute.zones.list")
    allowed = permissions_of("client") - {"iam.serviceAccounts.actAs"}
    with cloud.credentials(cloud.add_account("who", *allowed)):
        ((what, fix),) = failed(rows(cloud, tmp_path, service_account=email)).items()
        assert what == f"permission iam.serviceAccounts.actAs on {email}" and "roles/iam.serviceAccountUser" in fix
        cloud.rights.grant(
            f"who@{PROJECT}.iam.gserviceaccount.com",
            "roles/iam.serviceAccountUser",
            f"projects/{PROJECT}/serviceAccounts/{email}",
        )
        assert failed(rows(cloud, tmp_path, service_account=email)) == {}
        (what, fix), *_ = failed(rows(cloud, tmp_path, service_account="gone@" + email.partition("@")[2])).items()
        assert "gone@" in what and "does not know that" in fix


def test_rules_for_machines_are_not_asked_for_where_the_users_own_hold(cloud: GcpCloud, tmp_path: Any) -> None:
    cloud.world.denied = {"compute.firewalls.create", "compute.networks.updatePolicy"}
    assert failed(rows(cloud, tmp_path, network_tags=["mine"])) == {}


def test_a_network_of_another_project_is_asked_for_there(cloud: GcpCloud, tmp_path: Any) -> None:
    """A shared VPC: machines are made here, its subnetworks and firewall are the host project's."""
    cloud.rights.projects.add("host")
    network = {"network": "projects/host/global/networks/shared"}
    here = {
        p
        for p in permissions_of("client")
        if not p.startswith(("compute.firewalls", "compute.networks", "compute.subnet"))
    }
    there = permissions_of("client") - here
    with cloud.credentials(cloud.add_account("who", *here, *permissions_of("accounts"))):
        found = failed(rows(cloud, tmp_path, **network))
        assert set(found) == {f"{PERMISSION}{permission} on host" for permission in there}
        assert "--project host" in found[f"{PERMISSION}compute.subnetworks.use on host"]
        cloud.rights.allow(f"who@{PROJECT}.iam.gserviceaccount.com", there, resource="projects/host")
        assert failed(rows(cloud, tmp_path, **network)) == {}
    (what,) = failed(rows(cloud, tmp_path, network="projects/elsewhere/global/networks/shared"))
    assert what == "way to look permissions up on projects/elsewhere"


@pytest.mark.parametrize("service", ["compute", "iam", "cloudresourcemanager", "serviceusage"])
def test_an_api_that_is_off_is_told_with_the_command_that_enables_it(
    cloud: GcpCloud, tmp_path: Any, service: str
) -> None:
    name = f"{service}.googleapis.com"
    cloud.world.disabled_services = {name}
    found = rows(cloud, tmp_path)
    assert found[0][1], "the credentials are good"
    if service == "serviceusage":
        assert failed(found) == {} and any(
            what.startswith("APIs: not to be looked up") and name in what for what, _, _ in found
        )
        return
    fix = failed(found)[f"API {name}"]
    assert (
        f"gcloud services enable {name} --project {PROJECT}" in fix and f"/apis/library/{name}?project={PROJECT}" in fix
    )


def test_a_project_for_which_nobody_pays_is_told(cloud: GcpCloud, tmp_path: Any) -> None:
    cloud.world.billing = False
    assert f"billing/linkedaccount?project={PROJECT}" in failed(rows(cloud, tmp_path))["billing account of the project"]


@pytest.mark.parametrize(
    ("constraint", "rules", "settings", "said"),
    [
        ("compute.vmExternalIpAccess", [{"denyAll": True}], {}, "`reach: iap`"),
        ("compute.vmExternalIpAccess", [{"values": {"allowedValues": ["projects/p/zones/z/instances/i"]}}], {}, "`reach: iap`"),
        ("compute.vmExternalIpAccess", [{"allowAll": True}], {}, ""),
        ("compute.vmExternalIpAccess", [{"denyAll": True}], {"reach": "iap", "public_addresses": False}, ""),
        ("compute.requireOsLogin", [{"enforce": True}], {}, "OS Login"),
        ("compute.requireOsLogin", [{"enforce": False}], {}, ""),
        ("iam.disableServiceAccountCreation", [{"enforce": True}], {}, "`service_account`"),
        ("iam.disableServiceAccountCreation", [{"enforce": True}], {"service_account": "mine"}, ""),
        ("compute.trustedImageProjects", [{"values": {"allowedValues": ["projects/mine"]}}], {}, "ubuntu-os-cloud"),
        ("compute.trustedImageProjects", [{"values": {"allowedValues": ["projects/ubuntu-os-cloud"]}}], {}, ""),
        ("compute.trustedImageProjects", [{"values": {"deniedValues": ["is:projects/ubuntu-os-cloud"]}}], {}, "ubuntu-os-cloud"),
    ],
)  # fmt: skip
def test_a_policy_of_the_organisation_is_told_where_it_stands_in_the_way(
    cloud: GcpCloud, tmp_path: Any, constraint: str, rules: list[dict[str, Any]], settings: dict[str, Any], said: str
) -> None:
    cloud.rights.organisation[f"constraints/{constraint}"] = rules
    found = failed(rows(cloud, tmp_path, **settings))
    assert list(found) == ([f"organisation policy constraints/{constraint} that lets clusters be"] if said else [])
    assert said in "".join(found.values())


@pytest.mark.parametrize(
    ("rule", "is_open"),
    [
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]}, True),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["20-30"]}]}, True),
        ({"allowed": [{"IPProtocol": "all"}]}, True),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["443"]}]}, False),
        ({"allowed": [{"IPProtocol": "icmp"}]}, False),
        ({"allowed": [{"IPProtocol": "all"}], "disabled": True}, False),
        ({"allowed": [{"IPProtocol": "all"}], "targetTags": ["others"]}, False),
        ({"allowed": [{"IPProtocol": "all"}], "targetTags": ["mine"]}, True),
        ({"allowed": [{"IPProtocol": "all"}], "sourceRanges": ["10.0.0.0/8"]}, False),
    ],
)
def test_a_network_whose_own_rules_open_port_22_to_the_world_is_told(
    cloud: GcpCloud, tmp_path: Any, rule: dict[str, Any], is_open: bool
) -> None:
    """A cluster's own rules close it; with the user's in their place it is the user's to mend."""
    body = {"name": "default-allow-ssh", "network": "global/networks/default", "direction": "INGRESS", "priority": 65534,
            "sourceRanges": ["0.0.0.0/0"], **rule}  # fmt: skip
    provider(cloud, tmp_path)._calls.run("POST", "global/firewalls", "making Google's rule", body)
    assert failed(rows(cloud, tmp_path)) == {}
    found = failed(rows(cloud, tmp_path, network_tags=["mine"]))
    assert list(found) == (["port 22 in the network default closed to the world"] if is_open else [])
    assert not is_open or "gcloud compute firewall-rules delete default-allow-ssh" in "".join(found.values())


def test_quotas_are_compared_with_what_the_pools_would_launch(cloud: GcpCloud, tmp_path: Any) -> None:
    cloud.world.quotas["N2_CPUS"] = 1.0
    pool = PoolRequest("cpu", {"instances": ["n2-standard-4"], "market": ["on-demand"]})
    found = {
        what: (ok, fix) for what, ok, fix in provider(cloud, tmp_path).doctor_for([pool]) if what.startswith("quota")
    }
    ok, fix = found["quota 'N2_CPUS' of 4 vCPUs, it is 1"]
    assert not ok and "one n2-standard-4 has 4 vCPUs" in fix and f"quotas?project={PROJECT}" in fix


def test_nothing_more_is_asked_with_credentials_that_google_does_not_take(cloud: GcpCloud, tmp_path: Any) -> None:
    cloud.world.lapsed = True
    ((what, ok, fix),) = rows(cloud, tmp_path)
    assert what == "credentials that Google Cloud accepts" and not ok and "gcloud auth application-default login" in fix


def test_a_project_that_is_not_there_is_told_and_not_more(cloud: GcpCloud, tmp_path: Any) -> None:
    ((_, ok, fix),) = rows(cloud, tmp_path, project="nowhere-at-all")
    assert not ok and "nowhere-at-all" in fix and "`gcloud projects list`" in fix


def test_a_project_that_one_may_not_see_is_told_as_that(cloud: GcpCloud, tmp_path: Any) -> None:
    """Google says the same of it as of one that is not there."""
    with cloud.credentials(cloud.add_account("who", "storage.buckets.get")):
        cloud.world.closed_projects = {PROJECT}
        ((_, ok, fix),) = rows(cloud, tmp_path)
    assert not ok and f"{PROJECT}: there is none of that id, or who@" in fix and "gcloud projects list" in fix


def test_the_command_names_what_is_missing(cloud: GcpCloud, tmp_path: Any) -> None:
    settings = f"project: {PROJECT}, region: {REGION}, endpoint_url: '{cloud.url}', head_address: 127.0.0.1"
    spec = tmp_path / "cluster.yaml"
    spec.write_text(
        f"cluster: demo\nprovider: {{gcp: {{{settings}}}}}\npools: [{{name: cpu, instances: [e2-medium]}}]\n"
    )
    cloud.world.denied = {"compute.instances.create"}
    env = {**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "clusterctl", "doctor", str(spec), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    missing = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "gcp" and not check["ok"]]
    assert [check["found"] for check in missing] == ["no permission compute.instances.create"], done.stderr
    assert done.returncode != 0


def test_doctor_changes_nothing(cloud: GcpCloud, tmp_path: Any) -> None:
    rows(cloud, tmp_path)
    asked = {action.rpartition(".")[2] for action in cloud.world.actions()}
    assert asked <= {"get", "list", "testIamPermissions", "batchGet", "getBillingInfo", "getEffectivePolicy"}
    assert cloud.leftovers() == []
