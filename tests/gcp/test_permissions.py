"""What a role must allow is what the provider calls: no more, no less."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterctl_providers.base import HeadMachine, PoolRequest
from clusterctl_providers.gcp.provider import GcpProvider
from clusterctl_providers.gcp.roles import NAMES, permissions_of, render_role
from clusterctl_runtime.head.handover import OwnMachine

from clusterctl.client.images.build import build_image
from clusterctl.client.images.made import list_images, remove_images
from clusterctl.client.registry import Registry
from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import ADMIN, GcpCloud
from tests.cloud.gcp.tokens import make_key
from tests.cloud.gcp.world import PROJECT
from tests.gcp.stage import BOTH, Stage, pool
from tests.gcp.test_image_build import Machine, machine, registry, spec_for
from tests.support.cluster import wait_until

assert machine and registry  # fixtures
CLIENT, ACCOUNTS, HEAD, IMAGE = (permissions_of(name) for name in ("client", "accounts", "head", "image"))
# Seen only by whoever is told that he lacks it, or needed by what no call of ours names.
IMPLIED = {"serviceusage.services.use", "iam.roles.undelete", "iam.roles.update"}


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    gang = pool("gang", instances=["c2-standard-4"], one_zone=True)
    place = Stage(tmp_path, cloud, [pool(market=BOTH), gang])
    image = {"architecture": "X86_64", "diskSizeGb": "10", "status": "READY", "archiveSizeBytes": "1"}
    cloud.compute.store.add(f"projects/{PROJECT}/global/images/mine", "image", image)
    reserved = {"count": "2", "instanceProperties": {"machineType": "e2-small"}}
    body = {"name": "reserved", "specificReservationRequired": True, "specificReservation": reserved}
    place.provider._calls.run("POST", "zones/us-central1-a/reservations", "reserving", body)
    cloud.world.called_by.clear()
    yield place
    place.close()


def seen(cloud: GcpCloud, since: int = 0) -> set[str]:
    return {permission for _, permission in cloud.world.called_by[since:]}


def check(called: set[str], granted: set[str] | frozenset[str]) -> None:
    more, less = sorted(called - granted), sorted(granted - called)
    assert not more and not less, f"called and not granted: {more}; granted and not called: {less}"


def _state(provider: GcpProvider, instance_id: str) -> str:
    return {i.id: i.state for scope in provider.list() for i in scope.instances}.get(instance_id, "")


def live(stage: Stage, **settings: Any) -> None:
    """What a head does: offers, launches of every kind, lists, stops, starts and ends."""
    gang = stage.pools[1]
    provider, successor = stage.open(**settings), stage.open(**settings, subnet="default")
    made = provider.create([stage.request("cpu-1"), stage.request("gang-1", wanted=gang)])
    made += successor.create([stage.request("gang-2", wanted=gang), stage.request("cpu-2", wanted=pool(image="mine"))])
    assert all(isinstance(result, Instance) for result in made), made
    assert provider.offers(pool(reservation="reserved"))
    assert "there is none" in provider.offers(pool(reservation="promised"))[0].closed
    ids = [result.id for result in made if isinstance(result, Instance)]
    provider.console_log(ids[0])
    wait_until(lambda: _state(provider, ids[1]) == "running", what="the gang running")  # the first is a spot instance
    provider.stop([ids[1]])
    wait_until(lambda: _state(provider, ids[1]) == "stopped", what="it is stopped")
    assert provider.start([ids[1]]) == [None]
    assert provider.list()[0].complete
    assert provider.look_up(ids).keys() == set(ids)
    provider.terminate(ids)
    wait_until(lambda: not provider.list()[0].instances, what="an empty list")


def live_with_a_head(stage: Stage, **settings: Any) -> None:
    """What the client does beside, where the head runs on an instance: a disk and an address for it, and a way to it."""
    head = PoolRequest("head", pool().spec, role="head")
    provider = stage.open(head_machine=HeadMachine(public=True, ssh_from=("192.0.2.7",)), **settings)
    (made,) = provider.create([stage.request("head-1", wanted=head)])
    assert isinstance(made, Instance), made
    moved = stage.open(head_machine=HeadMachine(public=True, ssh_from=("192.0.2.8",)), **settings)
    moved.renew_access()
    disk = provider.make_head_disk(made.zone, 1 << 30, "once")
    assert provider.make_head_disk(made.zone, 1 << 30, "once").id == disk.id == getattr(provider.head_disk(), "id", "")
    wait_until(lambda: provider.attach_head_disk(disk, made.id), what="the disk attached")
    place = provider.whereabouts(made.id).place
    assert place.private == made.address
    assert provider.address_holder(place) is not None
    provider.terminate([made.id])
    wait_until(lambda: not provider.list()[0].instances, what="an empty list")
    assert provider.find_clusters()
    wait_until(lambda: not provider.sweep(), what="nothing left")
    (answer,) = stage.open(network="nowhere").create([stage.request("cpu-9")])
    assert isinstance(answer, BadRequest) and "no network 'nowhere'" in str(answer)


def test_the_permissions_that_calls_take_are_those_of_the_roles_client_and_accounts(stage: Stage) -> None:
    live_with_a_head(stage, worker_service_account="auto")
    live(stage, worker_service_account="auto")
    stage.provider.doctor()
    assert stage.open(worker_service_account="auto").sweep() == []
    check(seen(stage.cloud), (CLIENT | ACCOUNTS) - IMPLIED)


def test_a_head_lives_with_its_smaller_role(stage: Stage) -> None:
    """As its own account, bound to its cluster; workers' accounts it may hand on beside."""
    client = stage.open(head_machine=HeadMachine(public=True, ssh_from=("192.0.2.7",)), worker_service_account="auto")
    client.renew_access()  # `up` made the rules of the firewall and the accounts
    (own,) = client.create([stage.request("head-1", wanted=PoolRequest("head", pool().spec, role="head"))])
    assert isinstance(own, Instance), own
    before = len(stage.cloud.world.called_by)
    with stage.cloud.credentials(make_key(stage.cloud.world.accounts[client.identity.head_account()], stage.cloud.url)):
        OwnMachine.around(
            stage.open(worker_service_account="auto"), own.id
        ).end_itself()  # where its cluster ends itself
        live(stage, worker_service_account="auto")
    check(seen(stage.cloud, before), HEAD | {"iam.serviceAccounts.actAs", "iam.serviceAccounts.get"})


def test_images_are_built_listed_and_removed_with_the_role_image_beside(
    registry: Registry, cloud: GcpCloud, machine: Machine
) -> None:
    permissions = CLIENT | IMAGE
    with cloud.credentials(cloud.add_account("builder", *permissions)):
        built = build_image(registry, spec_for(cloud), "", lambda _: None)
        assert list_images(registry, spec_for(cloud))["images"]
        remove_images(registry, spec_for(cloud), (built["name"],), lambda _: None)
    check(seen(cloud) - CLIENT, IMAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_role_is_a_file_that_gcloud_takes(name: str) -> None:
    command = [sys.executable, "-m", "clusterctl_providers.gcp.roles", name, "--project", "my-project"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"# gcloud iam roles create clusterctl_{name} --project my-project --file {name}.yaml\n")
    role = yaml.safe_load(printed)
    assert role == render_role(name) and set(role) == {"title", "description", "stage", "includedPermissions"}
    permissions = role["includedPermissions"]
    assert len(set(permissions)) == len(permissions) <= 3000 and not any(
        "*" in permission for permission in permissions
    )
    assert len(role["title"]) <= 100 and len(role["description"]) <= 300


def test_a_missing_permission_is_a_sentence_that_names_it(stage: Stage) -> None:
    stage.cloud.world.denied = {"compute.instances.create"}
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, AuthFailed) and "compute.instances.create" in str(answer)


def test_the_role_of_a_head_gives_no_rights_away() -> None:
    assert set() == HEAD - CLIENT and not any("IamPolicy" in p or p.startswith("iam.") for p in HEAD)
    assert not any("IamPolicy" in permission or "roles" in permission for permission in CLIENT)
    assert ADMIN.endswith(f"@{PROJECT}.iam.gserviceaccount.com")
