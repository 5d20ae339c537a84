"""OS Login: the key is in the profile of whoever logs in, and Google's roles say whether it lets him in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import HeadMachine, PoolRequest
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.rights.oslogin import OsLogin
from clusterctl_providers.gcp.roles import permissions_of

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import ADMIN, GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT
from tests.cloud.machines import CIDR
from tests.gcp.cluster import CloudHeadCluster
from tests.gcp.parts import Parts
from tests.gcp.stage import Stage, pool

REQUIRED = "constraints/compute.requireOsLogin"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", str(path)], check=True)
    return path


@pytest.fixture
def parts(cloud: GcpCloud) -> Iterator[Parts]:
    yield Parts(cloud)


def login(parts: Parts, key: Path | str = "", **settings: Any) -> OsLogin:
    given = {**parts.settings, "os_login": True, **settings}
    return OsLogin(Calls(given), given, {"key": str(key)} if key else {}, parts.uid)


def test_the_clusters_key_is_put_into_the_callers_profile_once_and_taken_out_by_down(
    cloud: GcpCloud, parts: Parts, key: Path
) -> None:
    ours = login(parts, key)
    name = ours.user()
    assert name == cloud.os_login.name_of(ADMIN) == ours.user() == login(parts, key).user()
    assert cloud.world.actions().count("oslogin.users.importSshPublicKey") == 1
    ((_, keys),) = [cloud.os_login.let_in(f"projects/{PROJECT}/zones/z/instances/i")]
    assert keys.split()[:2] == key.with_suffix(".pub").read_text().split()[:2]
    assert cloud.leftovers() == cloud.os_login.keys() != []
    assert ours.forget() == login(parts, key).forget() == [] and cloud.leftovers() == []


def test_a_key_that_was_in_the_profile_already_is_the_users_own_and_stays(
    cloud: GcpCloud, parts: Parts, key: Path
) -> None:
    text = key.with_suffix(".pub").read_text().strip()
    parts.calls.ask("POST", f"v1/users/{ADMIN}:importSshPublicKey", "importing", {"key": text}, "oslogin")
    login(parts, key).user()
    assert login(parts, key).forget() == []
    assert cloud.os_login.let_in(f"projects/{PROJECT}/zones/z/instances/i")[1].strip() == text


def test_keys_of_other_clusters_stay(cloud: GcpCloud, parts: Parts, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    login(parts, key).user()
    login(Parts(cloud, "other"), other).user()
    assert login(parts, key).forget() == [] and len(cloud.os_login.keys()) == 1


def test_a_lost_answer_is_one_key(cloud: GcpCloud, parts: Parts, key: Path) -> None:
    cloud.fault("oslogin.users.importSshPublicKey", "lost", status=503)
    login(parts, key).user()
    cloud.fault("oslogin.users.sshPublicKeys.delete", "lost", status=503)
    assert len(cloud.os_login.keys()) == 1
    assert login(parts, key).forget() == [] and cloud.os_login.keys() == []


def test_a_users_login_is_asked_whose_it_is(
    cloud: GcpCloud, parts: Parts, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"{cloud.url}/oauth2.googleapis.com/token"
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", endpoint)
    with cloud.credentials(cloud.tokens.add_user("ann@example.com")):
        assert login(parts, key).user() == "ann_example_com"


def test_what_lacks_is_told(cloud: GcpCloud, parts: Parts, key: Path) -> None:
    with pytest.raises(BadRequest, match="no key to log in with"):
        login(parts).user()
    cloud.world.disabled_services = {"oslogin.googleapis.com"}
    with pytest.raises(AuthFailed, match=r"gcloud services enable oslogin\.googleapis\.com"):
        login(parts, key).user()


def test_where_it_is_not_wanted_nothing_is_asked(cloud: GcpCloud, parts: Parts, key: Path) -> None:
    off = login(parts, key, os_login=False)
    assert (off.user(), off.forget(), cloud.world.actions()) == ("", [], [])


def test_every_machine_is_launched_as_the_organisation_wants_it(cloud: GcpCloud, tmp_path: Path, key: Path) -> None:
    stage = Stage(tmp_path, cloud, os_login=True)
    cloud.world.refused_policies = {REQUIRED: ""}
    (refused,) = stage.open(os_login=False).create([stage.request("cpu-1")])
    assert isinstance(refused, BadRequest) and REQUIRED in str(refused)
    provider = stage.open({"key": str(key)}, HeadMachine(public=True))
    head = PoolRequest("head", pool().spec, role="head")
    made = provider.create([stage.request("cpu-2"), stage.request("head-1", wanted=head)])
    assert all(isinstance(one, Instance) for one in made), made
    for instance in cloud.instances():
        assert instance.metadata["enable-oslogin"] == "TRUE" and "ssh-keys" not in instance.metadata
    where = provider.whereabouts(next(i.handle for i in cloud.instances() if "head" in i.name))
    assert where.user == cloud.os_login.name_of(ADMIN)
    stage.close()


def test_a_cluster_lives_where_the_organisation_forces_os_login(tmp_path: Path) -> None:
    with GcpCloud(CIDR) as cloud, GcpMachines(cloud) as machines:
        cloud.world.refused_policies = {REQUIRED: ""}
        roles = frozenset[str]().union(*map(permissions_of, ("client", "accounts", "oslogin")))
        with cloud.credentials(cloud.add_account("user", *roles)):
            pools = "  - {name: cpu, instances: [e2-medium], max: 1, idle_timeout: 30m}"
            cluster = CloudHeadCluster(tmp_path, cloud, machines, pools, "os_login: true")
            try:
                cluster.up()
                name = cluster.on_head("id", "-un").stdout.strip()
                assert name == cloud.os_login.name_of(f"user@{PROJECT}.iam.gserviceaccount.com")
                cluster.wait_job(cluster.submit("--cpus", "1", "--", "hostname"), "succeeded")
                cluster.down()
                assert cloud.leftovers() == []
            finally:
                cluster.clean_up()
