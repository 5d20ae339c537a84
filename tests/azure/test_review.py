"""What a spec names and Azure does not have: each told at once, with its line and column, and nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.client.up.planning import plan_new
from clusterctl.client.up.review import review_spec
from clusterctl.spec.faults import SpecError
from tests.azure.parts import Parts
from tests.azure.test_doctor import group, lock
from tests.cloud.azure.assignments import ROOT
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

SPEC = """\
cluster: demo
provider:
  azure:
    subscription: {subscription}
    region: {region}
    calls_per_second: 500
    endpoint_url: "{url}"{more}
engine: none
head: {head}
pools:
  - name: cpu
    max: 1
    {pool}
"""
POOL = "instances: [Standard_D2s_v5]"
IDENTITIES = f"{ROOT}/resourceGroups/corp/providers/Microsoft.ManagedIdentity/userAssignedIdentities"


class Desk:
    def __init__(self, cloud: AzureCloud, directory: Path) -> None:
        self.cloud, self.directory = cloud, directory

    def write(self, pool: str = POOL, **given: str) -> SpecFile:
        usual = {"subscription": SUBSCRIPTION, "region": REGION, "head": "{}"}
        more = "".join(f"\n    {key}: {value}" for key, value in given.items() if key not in usual)
        file = self.directory / "cluster.yaml"
        known = {key: value for key, value in given.items() if key in usual}
        file.write_text(SPEC.format(**{**usual, **known, "more": more, "pool": pool, "url": self.cloud.url}))
        return read_spec(file)

    def faults(self, pool: str = POOL, **given: str) -> list[str]:
        """LINE:COLUMN: text, of each."""
        with pytest.raises(SpecError) as caught:
            review_spec(self.write(pool, **given))
        return [str(fault).removeprefix(f"{self.directory}/cluster.yaml:") for fault in caught.value.faults]


@pytest.fixture
def desk(cloud: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    yield Desk(cloud, tmp_path)
    assert not [op for op in cloud.world.operations() if "virtualMachines." in op], "nothing was made"


def test_a_spec_that_is_right_is_not_objected_to(desk: Desk) -> None:
    review_spec(desk.write(f'{POOL}\n    zones: ["1"]'))


def test_a_subscription(desk: Desk) -> None:
    (fault,) = desk.faults(subscription="00000000-1111-2222-3333-444444444444")
    assert fault.startswith("4:19: ") and "00000000-1111" in fault and "`az account list`" in fault


def test_a_region(desk: Desk) -> None:
    (fault,) = desk.faults(region="eastuss")
    assert fault.startswith("5:13: ") and "Azure has no region 'eastuss'" in fault


def test_a_resource_group(desk: Desk) -> None:
    (fault,) = desk.faults(resource_group="corp")
    assert fault.startswith("8:21: ") and "has no resource group 'corp'" in fault and "`az group create" in fault


def test_a_network_and_a_subnet(desk: Desk) -> None:
    parts = Parts(desk.cloud)
    network = parts.make_network("net", {"name": "sub", "addressPrefix": "10.50.1.0/24"})
    review_spec(desk.write(network=network, subnet="sub"))
    (fault,) = desk.faults(network=f"{network}x")
    assert fault.startswith("8:14: ") and "there is none" in fault
    (fault,) = desk.faults(network=network, subnet="tub")
    assert fault.startswith("9:13: ") and "no subnet 'tub'" in fault


@pytest.mark.parametrize("key", ["identity", "worker_identity"])
def test_an_identity(desk: Desk, key: str) -> None:
    desk.cloud.store.put(group("corp"))
    (fault,) = desk.faults(**{key: f"{IDENTITIES}/nobody"})
    assert fault.startswith("8:") and f"Azure has no {IDENTITIES}/nobody" in fault
    (fault,) = desk.faults(resource_group="corp", **{key: "nobody"})
    assert f"Azure has no {IDENTITIES}/nobody" in fault
    desk.cloud.world.denied = {"Microsoft.ManagedIdentity/userAssignedIdentities/read"}
    review_spec(desk.write(**{key: f"{IDENTITIES}/nobody"}))


def test_identities_that_are_there_or_made(desk: Desk) -> None:
    Parts(desk.cloud).make("Microsoft.ManagedIdentity/userAssignedIdentities/mine", {})
    review_spec(desk.write(identity=f"{IDENTITIES}/mine", worker_identity="auto"))


def test_a_security_group_of_another_region(desk: Desk) -> None:
    rules = Parts(desk.cloud).make(
        "Microsoft.Network/networkSecurityGroups/far", {"location": "westeurope", "properties": {}}
    )
    (fault,) = desk.faults(security_group=rules)
    assert fault.startswith("8:21: ") and "far is in westeurope, and machines in eastus need one there" in fault


def test_a_lock_under_which_nothing_could_be_ended_again(desk: Desk) -> None:
    desk.cloud.store.put(group("corp"))
    id_ = lock(desk.cloud, f"{ROOT}/resourceGroups/corp", "CanNotDelete")
    (fault,) = desk.faults(resource_group="corp")
    assert fault.startswith("8:21: ") and "nodes could not be ended" in fault and f"az lock delete --ids {id_}" in fault
    review_spec(desk.write())
    lock(desk.cloud, ROOT, "ReadOnly")
    (fault,) = desk.faults()
    assert "nothing there can be made, changed or removed" in fault
    desk.cloud.world.denied = {"Microsoft.Authorization/locks/read"}
    review_spec(desk.write())


def test_a_zone(desk: Desk) -> None:
    (fault,) = desk.faults(f'{POOL}\n    zones: ["1", "4"]')
    assert fault.endswith("eastus has no zone '4' (it has 1, 2, 3)")
    (fault,) = desk.faults(f'{POOL}\n    zones: ["1"]', region="northcentralus")
    assert "it has none: leave `zones` out" in fault


def test_a_size(desk: Desk) -> None:
    (fault,) = desk.faults("instances: [Standard_D2s_v5, Standard_D4z_v5]")
    assert "eastus has no size 'Standard_D4z_v5' (did you mean 'Standard_D4" in fault


def test_a_size_that_is_not_for_this_subscription(desk: Desk) -> None:
    desk.cloud.world.restricted = {"Standard_D2s_v5"}
    (fault,) = desk.faults()
    assert (
        "does not sell it to this subscription (NotAvailableForSubscription)" in fault
        and "AzureSKURestriction" in fault
    )
    desk.cloud.world.restricted = {"Standard_D2s_v5/1"}
    (fault,) = desk.faults(f'{POOL}\n    zones: ["1"]')
    assert "it is sold in 2, 3" in fault
    review_spec(desk.write())


def test_an_image_and_its_terms(desk: Desk) -> None:
    (fault,) = desk.faults(f"{POOL}\n    image: Canonical:nothing:server:latest")
    assert "there is none" in fault
    (fault,) = desk.faults(f"{POOL}\n    image: nvidia:ngc-gpu-image:gen2:latest")
    assert "`az vm image terms accept --urn nvidia:ngc-gpu-image:gen2:" in fault


def test_all_that_is_wrong_is_told_at_once(desk: Desk) -> None:
    faults = desk.faults('instances: [Standard_D4z_v5]\n    zones: ["9"]', identity=f"{IDENTITIES}/nobody")
    assert len(faults) == 3


def test_plan_says_it(desk: Desk) -> None:
    with pytest.raises(SpecError, match="no size 'Standard_D4z_v5'"):
        plan_new(desk.write("instances: [Standard_D4z_v5]"))
