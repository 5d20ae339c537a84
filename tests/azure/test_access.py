"""The roles at work: every call is judged by them, and they are enough, for one's own cluster only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.azure.roles import actions_of
from clusterctl_providers.base import HeadMachine, PoolRequest

from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import Instance
from tests.azure.parts import Parts
from tests.azure.stage import Stage, launches, names, pool
from tests.azure.test_permissions import as_head, live, live_with_a_head, stage
from tests.cloud.azure.cloud import AzureCloud
from tests.support.cluster import wait_until

assert stage  # a fixture


@pytest.fixture
def other(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "other").mkdir()
    place = Stage(tmp_path / "other", cloud)
    yield place
    place.close()


def test_the_roles_client_and_access_are_enough_for_a_clusters_life(stage: Stage, cloud: AzureCloud) -> None:
    client = cloud.rights.add("client", *actions_of("client"), *actions_of("access"))
    before = set(cloud.leftovers())
    with cloud.credentials(client):
        live_with_a_head(stage, worker_identity="auto")
        live(stage, worker_identity="auto")
        wait_until(lambda: not stage.open(worker_identity="auto").sweep(), what="nothing left")
    assert set(cloud.leftovers()) == before


def test_with_identities_that_somebody_else_has_made_the_role_client_is_enough(stage: Stage, cloud: AzureCloud) -> None:
    parts = Parts(cloud)
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    named = {"identity": parts.make(f"{kind}/heads", {}), "worker_identity": parts.make(f"{kind}/workers", {})}
    with cloud.credentials(cloud.rights.add("client", *actions_of("client"))):
        live_with_a_head(stage, **named)
        live(stage, **named)
        wait_until(lambda: not stage.open(**named).sweep(), what="nothing left")
    used = {id_ for body in launches(cloud) for id_ in body["identity"]["userAssignedIdentities"]}
    assert used == set(named.values())


def test_a_head_of_one_cluster_can_neither_end_nor_make_machines_of_another(
    stage: Stage, other: Stage, cloud: AzureCloud
) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    request = stage.request("cpu-2")
    up = other.open(head_machine=HeadMachine(public=True, ssh_from=("192.0.2.7",)))
    (head,) = up.create([other.request("head-1", wanted=PoolRequest("head", pool().spec, role="head"))])
    assert isinstance(head, Instance), head
    with cloud.credentials(as_head(other)):
        theirs = stage.open()
        with pytest.raises(AuthFailed, match=r"virtualMachines/(read|delete)"):
            theirs.terminate([made.id])
        (answer,) = theirs.create([request])
        assert isinstance(answer, AuthFailed), answer
        own = other.open()
        (mine,) = own.create([other.request("cpu-1")])
        assert isinstance(mine, Instance), mine
        own.terminate([mine.id])
    assert made.id in names(cloud)


def test_workers_have_no_identity_and_so_no_token(stage: Stage, cloud: AzureCloud) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    assert all("identity" not in body for body in launches(cloud))


def test_a_launch_waits_until_compute_knows_the_new_identity(stage: Stage, cloud: AzureCloud) -> None:
    gone = (
        "Identity operation for resource 'x' failed with error 'Failed to perform resource identity operation. "
        "Response: 'Resource '/subscriptions/1/.../userAssignedIdentities/w' was not found.''."
    )
    cloud.fault("virtualMachines.createOrUpdate", code="FailedIdentityOperation", message=gone, status=400, times=2)
    (made,) = stage.open(worker_identity="auto").create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    (given,) = launches(cloud)[-1]["identity"]["userAssignedIdentities"]
    assert given.endswith(f"{stage.uid[:8]}-worker")
