"""The roles at work: policies are asked for each call and thing, and they are enough, for one's own cluster only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.gcp.roles import permissions_of
from google.auth import _regional_access_boundary_utils

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.tokens import make_key
from tests.cloud.gcp.world import PROJECT
from tests.gcp.stage import Stage, pool
from tests.gcp.test_permissions import live, live_with_a_head, stage

assert stage  # a fixture
SCOPES = ("https://www.googleapis.com/auth/compute", "https://www.googleapis.com/auth/cloud-billing.readonly")


def key_of(cloud: GcpCloud, email: str) -> dict[str, str]:
    return make_key(cloud.world.accounts[email], cloud.url)


@pytest.fixture
def other(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "other").mkdir()
    place = Stage(tmp_path / "other", cloud)
    yield place
    place.close()


def test_the_roles_client_and_accounts_are_enough_for_a_clusters_life(stage: Stage, cloud: GcpCloud) -> None:
    before = set(cloud.leftovers())
    roles = permissions_of("client") | permissions_of("accounts")
    with cloud.credentials(cloud.add_account("client", *roles)):
        live_with_a_head(stage, worker_service_account="auto")
        live(stage, worker_service_account="auto")
        assert stage.open(worker_service_account="auto").sweep() == []
    assert set(cloud.leftovers()) == before


def test_with_accounts_that_somebody_else_has_made_the_role_client_is_enough(stage: Stage, cloud: GcpCloud) -> None:
    for name in ("heads", "workers"):
        cloud.add_account(name, "compute.instances.list")
    named = {"service_account": "heads", "worker_service_account": "workers"}
    with cloud.credentials(cloud.add_account("client", *permissions_of("client"))):
        live_with_a_head(stage, **named)
        live(stage, **named)
        assert stage.open(**named).sweep() == []
    used = [call for _, action, call in cloud.world.calls if action == "compute.instances.insert"]
    emails = {account["email"] for call in used for account in call["body"].get("serviceAccounts", ())}
    assert emails == {f"{name}@{PROJECT}.iam.gserviceaccount.com" for name in ("heads", "workers")}


def test_a_head_of_one_cluster_can_neither_end_nor_make_machines_of_another(
    stage: Stage, other: Stage, cloud: GcpCloud
) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    request = stage.request("cpu-2")
    other.open(ssh_from=["192.0.2.7"]).renew_access()  # its `up` has made what is around its machines
    with cloud.credentials(key_of(cloud, other.provider.identity.head_account())):
        theirs = stage.open()
        with pytest.raises(AuthFailed, match=r"compute\.instances\.(get|delete)"):
            theirs.terminate([made.id])
        with pytest.raises(AuthFailed, match=r"compute\.instances\.(get|stop)"):
            theirs.stop([made.id])
        (answer,) = theirs.create([request])
        assert isinstance(answer, AuthFailed) and "compute.instances.create" in str(answer)
        own = other.open()
        (mine,) = own.create([other.request("cpu-1")])
        assert isinstance(mine, Instance), mine
        own.terminate([mine.id])
    assert made.id in {instance.handle for instance in cloud.instances()}


def test_a_heads_token_is_for_machines_and_prices_and_opens_nothing_else(stage: Stage, cloud: GcpCloud) -> None:
    """With the scopes that its instance gets, whatever its account is allowed by somebody's mistake."""
    email = stage.provider.identity.head_account()
    (attached,) = stage.provider.identity.attached(head=True)
    assert attached == {"email": email, "scopes": list(SCOPES)}
    cloud.rights.grant(email, "roles/owner")
    token, _ = cloud.tokens.issue(email, SCOPES)
    import requests

    def ask(path: str) -> int:
        return requests.get(f"{cloud.url}/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code

    assert ask(f"compute.googleapis.com/compute/v1/projects/{PROJECT}/zones/us-central1-a/instances") == 200
    assert ask(f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts") == 403
    assert ask(f"cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}") == 403


def test_workers_have_no_account_and_so_no_token(stage: Stage, cloud: GcpCloud) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    assert "serviceAccounts" not in cloud.instance(made.id).body


def test_a_launch_waits_until_compute_engine_knows_the_new_account(stage: Stage, cloud: GcpCloud) -> None:
    gone = "The resource 'projects/p/serviceAccounts/x' of type 'serviceAccount' was not found."
    cloud.fault("compute.instances.insert", code="invalid", message=gone, status=400, times=2)
    cloud.fault("compute.instances.bulkInsert", code="invalid", message=gone, status=400, times=2)
    (made,) = stage.open(worker_service_account="auto").create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    (account,) = cloud.instance(made.id).body["serviceAccounts"]
    assert account["email"].startswith(f"clusterctl-{stage.uid[:8]}-worker@")


def test_an_account_of_the_users_that_does_not_exist_is_told_at_once(stage: Stage, cloud: GcpCloud) -> None:
    (answer,) = stage.open(worker_service_account="typo").create([stage.request("cpu-1", wanted=pool())])
    assert isinstance(answer, BadRequest) and f"typo@{PROJECT}" in str(answer), answer
    launches = [
        action for action in cloud.world.actions() if action.startswith("compute.instances.") and "nsert" in action
    ]
    assert len(launches) == 1


def test_beside_another_endpoint_nobody_at_google_is_asked(
    stage: Stage, cloud: GcpCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google-auth looks up by itself, in a thread, where an account may be used from."""
    started: list[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(type(thread).__name__)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    stage.open().list()
    assert "compute.instances.list" in cloud.world.actions()
    assert _regional_access_boundary_utils._RegionalAccessBoundaryRefreshThread.__name__ not in started
