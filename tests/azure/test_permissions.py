"""What a role must allow is what the provider calls: no more, no less."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.azure.bastion import find_host, find_machine
from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.azure.roles import ASSIGN, NAMES, UNASSIGN, actions_of, grants_only, render_role, role_guid
from clusterctl_providers.base import HeadMachine, PoolRequest
from clusterctl_runtime.head.handover import OwnMachine

from clusterctl.client.images.build import build_image
from clusterctl.client.images.made import list_images, remove_images
from clusterctl.client.registry import Registry
from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.azure.parts import Parts
from tests.azure.stage import BOTH, Stage, pool, vms
from tests.azure.test_image_build import Builder, machine, registry, spec_for
from tests.azure.test_images import gallery
from tests.cloud.azure import conditions
from tests.cloud.azure.assignments import OWNER, ROOT
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.tokens import Application
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.support.cluster import wait_until

assert machine and registry  # fixtures
CLIENT, ACCESS, HEAD, LOOKUP, IMAGE = (actions_of(name) for name in ("client", "access", "head", "lookup", "image"))
ALONG = {  # goes with its machine, which nobody asks for by a call
    "Microsoft.Compute/disks/delete", "Microsoft.Network/networkInterfaces/delete", "Microsoft.Network/publicIPAddresses/delete",
}  # fmt: skip
SOLD = "nvidia:ngc-gpu-image:gen2:latest"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    gang = pool("gang", instances=["Standard_D4s_v5"], one_zone=True)
    place = Stage(tmp_path, cloud, [pool(market=BOTH), gang])
    cloud.world.called_by.clear()
    yield place
    place.close()


def seen(cloud: AzureCloud, since: int = 0) -> set[str]:
    return {action for _, action in cloud.world.called_by[since:]}


def check(called: set[str], granted: set[str] | frozenset[str]) -> None:
    more, less = sorted(called - granted), sorted(granted - called)
    assert not more and not less, f"called and not granted: {more}; granted and not called: {less}"


def as_head(stage: Stage, **settings: Any) -> Application:
    """An application that is the managed identity of the cluster's head."""
    cloud = stage.cloud
    id_ = stage.open(**settings).identity.head_identity()
    application = cloud.tokens.add("head")
    application.principal = cloud.tokens.identities[id_.lower()]
    cloud.tokens.applications[application.principal.client_id] = application
    return application


def _state(provider: AzureProvider, instance_id: str) -> str:
    return {i.id: i.state for scope in provider.list() for i in scope.instances}.get(instance_id, "")


def live(stage: Stage, pools: Sequence[PoolRequest] = (), keep: Sequence[str] = (), **settings: Any) -> None:
    """What a head does: offers, launches of every kind, lists, stops, starts and ends. `pools`: more of them, a node of each."""
    gang = stage.pools[1]
    provider = stage.open(**settings)
    made = provider.create([stage.request("cpu-1"), stage.request("gang-1", wanted=gang)])
    made += provider.create([stage.request("gang-2", wanted=gang), stage.request("cpu-2", wanted=pool())])
    for number, one in enumerate(pools, 3):
        made += provider.create([stage.request(f"cpu-{number}", provider.offers(one)[0], one)])
    assert all(isinstance(result, Instance) for result in made), made
    ids = [result.id for result in made if isinstance(result, Instance)]
    wait_until(lambda: _state(provider, ids[3]) == "running", what="the node running")  # the first is a spot machine
    provider.console_log(ids[3])
    provider.stop([ids[3]])
    wait_until(lambda: _state(provider, ids[3]) == "stopped", what="it is stopped")
    assert provider.start([ids[3]]) == [None]
    assert provider.list()[0].complete
    assert provider.look_up(ids).keys() == set(ids)
    provider.terminate(ids)
    wait_until(lambda: {i.id for i in provider.list()[0].instances} <= {*keep}, what="nothing else listed")


def end_itself(stage: Stage, head: str, **settings: Any) -> None:
    """What a head does last whose cluster ends itself: how its own machine went it asks nobody."""
    before = len(vms(stage.cloud))
    OwnMachine.around(stage.open(**settings), head).end_itself()
    wait_until(lambda: len(vms(stage.cloud)) < before, what="its own machine gone")


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
    assert provider.address_holder(place) is not None
    provider.terminate([made.id])
    wait_until(lambda: not provider.list()[0].instances, what="an empty list")
    assert provider.find_clusters()
    wait_until(lambda: not provider.sweep(), what="nothing left")


def another(stage: Stage, number: int) -> Stage:
    """A cluster of its own."""
    directory = stage.directory / str(number)
    directory.mkdir()
    return Stage(directory, stage.cloud, stage.pools)


def belongings(stage: Stage) -> tuple[dict[str, Any], list[PoolRequest]]:
    """Of the user's, in a group of another name: a network, a reservation, images, keys for disks. The settings and pools that
    name them."""
    parts = Parts(stage.cloud)
    network = parts.make_network("v", {"name": "s", "addressPrefix": "10.50.1.0/24"})
    parts.make("Microsoft.Compute/capacityReservationGroups/crg", {"properties": {}})
    one = {"sku": {"name": "Standard_D2s_v5", "capacity": 2}, "properties": {}}
    parts.make("Microsoft.Compute/capacityReservationGroups/crg/capacityReservations/one", one)
    keys = f"{ROOT}/resourceGroups/corp/providers/Microsoft.Compute/diskEncryptionSets/keys"
    row = {
        "id": keys,
        "name": "keys",
        "type": "Microsoft.Compute/diskEncryptionSets",
        "location": REGION,
        "properties": {},
    }
    stage.cloud.store.put(row)
    image = gallery(parts, "1.0.0")
    disk = {"osType": "Linux", "osState": "Generalized", "diskSizeGB": 40}
    managed = parts.make("Microsoft.Compute/images/own", {"properties": {
        "hyperVGeneration": "V2", "storageProfile": {"osDisk": {**disk, "managedDisk": {"id": f"{keys}/../d"}}}}})  # fmt: skip
    for kind in ("communityGalleries", "sharedGalleries"):
        stage.cloud.galleries.shares.ids[kind, "corp"] = image.partition("/images/")[0]
    images = (image, managed, "community:corp/os", "/sharedGalleries/corp/images/os/versions/latest")
    settings = {
        "resource_group": "corp", "network": network, "outbound": "public", "disk_encryption_set": keys,
        "security_group": parts.make("Microsoft.Network/networkSecurityGroups/mine", {"properties": {}}),
    }  # fmt: skip
    return settings, [pool(reservation="crg"), *(pool(image=each) for each in images)]


def test_the_actions_that_calls_take_are_those_of_the_roles_client_and_access(stage: Stage) -> None:
    theirs, pools = belongings(stage)
    before = len(stage.cloud.world.called_by)
    for number, (settings, more) in enumerate(
        [({"worker_identity": "auto"}, []), ({"resource_group": "corp"}, []), (theirs, pools)]
    ):
        cluster = another(stage, number)
        live_with_a_head(cluster, **settings)
        live(cluster, more, **settings)
        wait_until(lambda cluster=cluster, settings=settings: not cluster.open(**settings).sweep(), what="nothing left")
        cluster.close()
    stage.cloud.policies.assign("Base", stage.cloud.policies.add_set("base"))
    examined = stage.open(**theirs, encryption_at_host=True)
    examined.doctor_for([pool(image=SOLD)])
    examined.review(pools)
    check(seen(stage.cloud, before), CLIENT | ACCESS)


def test_a_head_lives_with_its_smaller_roles(stage: Stage) -> None:
    """As its own identity, let into its group and to what the spec names elsewhere; workers' identities it may hand on."""
    theirs, pools = belongings(stage)
    called: set[str] = set()
    for number, (settings, more) in enumerate([({"worker_identity": "auto"}, []), (theirs, pools)]):
        cluster = another(stage, number)
        up = cluster.open(head_machine=HeadMachine(public=True, ssh_from=("192.0.2.7",)), **settings)
        (head,) = up.create([cluster.request("head-1", wanted=PoolRequest("head", pool().spec, role="head"))])
        assert isinstance(head, Instance), head
        up.renew_access()
        with stage.cloud.credentials(as_head(cluster, **settings)):
            before = len(stage.cloud.world.called_by)
            live(cluster, more, keep=(head.id,), **settings)
            end_itself(cluster, head.id, **settings)
            called |= seen(stage.cloud, before)
        cluster.close()
    check(called | ALONG, HEAD | LOOKUP | {"Microsoft.ManagedIdentity/userAssignedIdentities/read"})


def test_the_way_to_a_head_behind_a_bastion_takes_the_role_bastion_beside(stage: Stage) -> None:
    parts = Parts(stage.cloud)
    network = parts.make_network("v", {"name": "s", "addressPrefix": "10.50.1.0/24"},
                                 {"name": "AzureBastionSubnet", "addressPrefix": "10.50.2.0/24"})  # fmt: skip
    before = len(stage.cloud.world.called_by)
    settings = {**stage.settings, "network": network}
    with pytest.raises(BadRequest, match="there is no Bastion host"):
        find_host(parts.calls, settings)
    with pytest.raises(BadRequest, match="shows no machine"):
        find_machine(parts.calls, settings, "nobody")
    check(seen(stage.cloud, before) - CLIENT, actions_of("bastion"))


def test_images_are_built_listed_and_removed_with_the_role_image_beside(
    registry: Registry, cloud: AzureCloud, machine: Builder
) -> None:
    builder = cloud.rights.add("builder", *CLIENT, *actions_of("access"), *IMAGE)
    with cloud.credentials(builder):
        built = build_image(registry, spec_for(cloud), "", lambda _: None)
        assert list_images(registry, spec_for(cloud))["images"]
        remove_images(registry, spec_for(cloud), (built["name"],), lambda _: None)
    check(seen(cloud) - CLIENT - ACCESS, IMAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_role_is_a_file_that_az_takes(name: str) -> None:
    command = [sys.executable, "-m", "clusterctl_providers.azure.roles", name, "--subscription", SUBSCRIPTION]
    role = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert role == render_role(name, SUBSCRIPTION) and role["AssignableScopes"] == [ROOT]
    actions = role["Actions"]
    assert len(set(actions)) == len(actions) and not any("*" in action for action in actions)
    assert len(role["Name"]) <= 512 and len(role["Description"]) <= 2048 and role["IsCustom"] is True


@pytest.mark.parametrize("guids", [(), ("11111111-1111-4111-8111-111111111111",)])
def test_the_condition_for_who_gives_heads_their_roles_is_printed_too(guids: tuple[str, ...]) -> None:
    given = [word for guid in guids for word in ("--guid", guid)]
    command = [
        sys.executable,
        "-m",
        "clusterctl_providers.azure.roles",
        "condition",
        "--subscription",
        SUBSCRIPTION,
        *given,
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == grants_only(*(guids or (role_guid(name, SUBSCRIPTION) for name in ("head", "lookup"))))
    role = guids[0] if guids else role_guid("head", SUBSCRIPTION)
    asked = {f"@request[microsoft.authorization/roleassignments:{key}]": value for key, value in {
        "roledefinitionid": role, "principaltype": "ServicePrincipal"}.items()}  # fmt: skip
    assert conditions.holds(printed, ASSIGN, asked)
    assert not conditions.holds(printed, ASSIGN, {**asked, next(iter(asked)): OWNER})
    assert not conditions.holds(printed, UNASSIGN, asked), "what is taken away is another's"


def test_the_role_of_a_head_gives_no_rights_away() -> None:
    assert set() == (HEAD | LOOKUP) - CLIENT
    assert not any(action.startswith("Microsoft.Authorization/") for action in HEAD | LOOKUP)
    assert not any(action.startswith("Microsoft.Authorization/role") for action in CLIENT)


def test_a_missing_action_is_a_sentence_that_names_it(stage: Stage) -> None:
    stage.cloud.world.denied = {"Microsoft.Compute/virtualMachines/write"}
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, AuthFailed) and "Microsoft.Compute/virtualMachines/write" in str(answer)
