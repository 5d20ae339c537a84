"""What a launch asks of Azure, and how many calls it takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.azure.machines.body import MOST_USER_DATA
from clusterctl_providers.base import TAG_NODE, TAG_TOKEN, TAG_UID

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.azure.stage import BOTH, DELETE, PUT, Stage, launches, names, pool, vms
from tests.cloud.azure.cloud import AzureCloud
from tests.crash.stage import Crash

GIB = 1024**3
LIST = "virtualMachines.list"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def made(result: Instance | ProviderError) -> Instance:
    assert isinstance(result, Instance), result
    return result


def document(body: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64decode(body["properties"]["osProfile"]["customData"]).decode()
    return json.loads(text.rpartition("#clusterctl-document\n")[2])


def test_a_launch_has_all_that_keeps_a_machine_safe_and_ours(stage: Stage, cloud: AzureCloud) -> None:
    instance = made(stage.provider.create([stage.request("cpu-1")])[0])
    (body,) = launches(cloud)
    properties = body["properties"]
    assert instance.id == f"clusterctl-demo-{stage.uid[:8]}-cpu-1-1" == properties["osProfile"]["computerName"]
    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": -1.0}
    disk = properties["storageProfile"]["osDisk"]
    assert disk["deleteOption"] == "Delete" and disk["diskSizeGB"] == 30
    (card,) = properties["networkProfile"]["networkInterfaceConfigurations"]
    assert card["properties"]["deleteOption"] == "Delete" and card["properties"]["networkSecurityGroup"]["id"]
    (address,) = card["properties"]["ipConfigurations"]
    assert "publicIPAddressConfiguration" not in address["properties"], "nothing reaches a worker"
    assert body["tags"][TAG_UID] == card["tags"][TAG_UID] == stage.uid
    assert body["tags"][TAG_NODE] == "cpu-1" and TAG_TOKEN not in body["tags"]
    assert "identity" not in body, "workers need none"
    assert properties["securityProfile"]["uefiSettings"]["secureBootEnabled"]
    login = properties["osProfile"]["linuxConfiguration"]
    assert login["disablePasswordAuthentication"] and login["ssh"]["publicKeys"][0]["keyData"].startswith(
        "ssh-ed25519 "
    )


def test_what_goes_with_a_machine_is_ours_too_and_goes_with_it(stage: Stage, cloud: AzureCloud) -> None:
    instance = made(stage.provider.create([stage.request("cpu-1")])[0])
    kinds = ("Microsoft.Network/networkInterfaces", "Microsoft.Compute/disks")
    with cloud.world.lock:
        cloud.advance()
        rows = [row for kind in kinds for row in cloud.store.of_type(kind)]
    assert len(rows) == 2 and all(row["tags"][TAG_UID] == stage.uid for row in rows)
    stage.provider.terminate([instance.id])
    with cloud.world.lock:
        cloud.advance()
        assert [row["id"] for kind in kinds for row in cloud.store.of_type(kind)] == []


def test_on_demand_machines_have_no_price(stage: Stage, cloud: AzureCloud) -> None:
    stage.provider.create([stage.request("cpu-1", wanted=pool())])
    assert not {"priority", "evictionPolicy", "billingProfile"} & launches(cloud)[0]["properties"].keys()


def test_the_users_disk_tags_price_and_way_out_are_taken(stage: Stage, cloud: AzureCloud) -> None:
    tags = {"team": "vision", TAG_UID: "not-yours", "note": "Loud"}
    provider = stage.open(
        tags=tags, disk_type="StandardSSD_LRS", max_price=0.01, outbound="public", trusted_launch=False
    )
    mine = pool(disk=200 * GIB, market=["spot"])
    made(provider.create([stage.request("cpu-1", wanted=mine)])[0])
    (body,) = launches(cloud)
    disk = body["properties"]["storageProfile"]["osDisk"]
    assert disk["diskSizeGB"] == 200 and disk["managedDisk"]["storageAccountType"] == "StandardSSD_LRS"
    assert (body["tags"]["team"], body["tags"]["note"], body["tags"][TAG_UID]) == ("vision", "Loud", stage.uid)
    assert body["properties"]["billingProfile"] == {"maxPrice": 0.01}
    assert "securityProfile" not in body["properties"]
    (card,) = body["properties"]["networkProfile"]["networkInterfaceConfigurations"]
    (address,) = card["properties"]["ipConfigurations"]
    public = address["properties"]["publicIPAddressConfiguration"]
    assert public["properties"]["deleteOption"] == "Delete" and public["tags"][TAG_UID] == stage.uid


def test_a_disk_that_the_image_does_not_fit_on_is_refused_and_nothing_is_left(stage: Stage, cloud: AzureCloud) -> None:
    """How large an image of the marketplace is, Azure tells with the refusal."""
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=pool(disk=5 * GIB))])
    assert isinstance(answer, BadRequest) and "30 GB" in str(answer) and vms(cloud) == []


def test_fifty_nodes_are_fifty_puts_and_a_few_calls_more(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    made(stage.provider.create([stage.request("cpu-99", of)])[0])
    before = len(cloud.world.calls)
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 51)])
    assert len({made(result).id for result in results}) == 50
    operations = cloud.world.operations(before)
    assert operations.count(PUT) == 50 and len(operations) <= 50 + 12, operations
    assert len(list((stage.directory / "state" / "azure-launches").glob("*.json"))) == 2, "one page for all of them"
    shown = {i.id: i.node_id for i in stage.provider.list()[0].instances}
    assert {made(result).id: made(result).node_id for result in results}.items() <= shown.items()


def test_a_machine_has_its_own_join_token_and_no_other(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request("cpu-1", of), stage.request("cpu-2", of)]
    own = [replace(r, bootstrap={**r.bootstrap, "join_token": f"secret of {r.node_id}"}) for r in requests]
    for result in stage.provider.create(own):
        made(result)
    for body in launches(cloud):
        (node,), boot = document(body)["nodes"], document(body)["boot"]
        assert node == [body["tags"][TAG_NODE], 1, f"secret of {node[0]}"]
        assert "join_token" not in boot and boot["metadata"] == "azure" and boot["shutdown"] == "poweroff"


def test_what_there_is_capacity_for_is_taken_and_the_rest_is_told_and_removed(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.capacity[f"{of.instance_type}/{of.zone}/spot"] = 2
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert sorted(type(result).__name__ for result in results) == ["Instance"] * 2 + ["NoCapacity"] * 3
    refusal = next(result for result in results if isinstance(result, NoCapacity))
    assert ("AllocationFailed" in str(refusal) and f"zone {of.zone}" in str(refusal)) or "zone" in str(refusal)
    assert len(vms(cloud)) == 2, "what failed would keep its card and its disk"
    assert {vm["properties"]["provisioningState"] for vm in vms(cloud)} == {"Succeeded"}
    assert len([path for path in cloud.leftovers() if "/networkInterfaces/" in path or "/disks/" in path]) == 4


def test_what_fits_under_a_quota_is_launched(stage: Stage, cloud: AzureCloud) -> None:
    of = next(o for o in stage.provider.offers(stage.pools[0]) if o.instance_type == "Standard_D2s_v5")
    made(stage.provider.create([stage.request("cpu-9", of)])[0])
    cloud.world.quotas["lowPriorityCores" if of.market == "spot" else "cores"] = 10.0  # four nodes of two more
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 9)])
    assert sorted(type(result).__name__ for result in results) == ["Instance"] * 4 + ["QuotaExceeded"] * 4
    assert len(vms(cloud)) == 5


@pytest.mark.parametrize("effect", ["lost", "reset", "cut", "garbled"])
def test_a_lost_answer_is_asked_for_again_and_the_same_machine_answers(
    stage: Stage, cloud: AzureCloud, effect: str
) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.fault(PUT, effect, times=2)
    results = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert len({made(result).id for result in results}) == 5 == len(vms(cloud))


@pytest.mark.parametrize("effect", ["lost", "reset", "cut"])
def test_a_line_that_stays_broken_keeps_the_intent_and_comes_to_one_machine_each(
    stage: Stage, cloud: AzureCloud, effect: str
) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 11)]
    fault = cloud.fault("*", effect, times=None, match="virtualMachines")
    answers = stage.provider.create(requests)
    assert {getattr(answer, "code", "made") for answer in answers} <= {"unknown_outcome", "throttled"}
    cloud.world.faults.remove(fault)
    again = stage.open().create(requests[3:6])  # a new process, and some are not wanted any more
    assert [made(i).node_id for i in again] == ["cpu-4", "cpu-5", "cpu-6"]
    assert len(names(cloud)) == len(set(names(cloud))) and len(names(cloud)) <= 10


def test_a_lost_book_does_not_launch_twice(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 4)]
    first = stage.provider.create(requests)
    for path in (stage.directory / "state" / "azure-launches").glob("*.json"):
        path.unlink()
    again = stage.open().create(requests)
    assert [made(i).id for i in again] == [made(i).id for i in first]
    assert len(vms(cloud)) == 3


@pytest.mark.parametrize("gang", [False, True])
@pytest.mark.parametrize("alive", range(4))
def test_a_process_that_dies_between_any_two_puts_leaves_what_the_next_one_completes(
    stage: Stage, cloud: AzureCloud, alive: int, gang: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl_providers.azure.machines.puts.TOGETHER", 1)
    wanted = pool("cpu", instances=["Standard_D2s_v5"], one_zone=gang)
    of = stage.provider.offers(wanted)[0]
    requests = [stage.request(f"cpu-{n}", of, wanted) for n in range(1, 5)]
    dying = stage.open()
    plain, puts = dying._calls.change, 0

    def change(method: str, path: str, *given: Any, **more: Any) -> Any:
        nonlocal puts
        if method == "PUT" and "/virtualMachines/" in path:
            puts += 1
            if puts > alive:
                raise Crash
        return plain(method, path, *given, **more)

    monkeypatch.setattr(dying._calls, "change", change)
    with pytest.raises(Crash):
        dying.create(requests)
    assert len(vms(cloud)) == alive
    results = stage.open().create(requests)
    assert len({made(result).id for result in results}) == 4 == len(vms(cloud))
    assert len(launches(cloud)) == (alive + 4 if gang else 4), "of what is there, none is asked for again"


def test_nodes_launched_together_are_one_batch_per_kind(stage: Stage, cloud: AzureCloud) -> None:
    offers = stage.provider.offers(stage.pools[0])
    spot, demand = offers[0], next(o for o in offers if o.market == BOTH[1])
    requests = [stage.request("cpu-1", spot), stage.request("cpu-2", demand), stage.request("cpu-3", spot)]
    assert [made(result).market for result in stage.provider.create(requests)] == ["spot", "on-demand", "spot"]
    assert len(list((stage.directory / "state" / "azure-launches").glob("*.json"))) == 2


def test_papers_that_azure_does_not_take_are_told_before_any_call(stage: Stage, cloud: AzureCloud) -> None:
    request = stage.request("cpu-1")
    long = {"labels": {"note": "x" * MOST_USER_DATA}}
    (answer,) = stage.provider.create([replace(request, bootstrap={**request.bootstrap, **long})])
    assert isinstance(answer, BadRequest) and str(MOST_USER_DATA) in str(answer) and launches(cloud) == []


def test_a_node_whose_name_is_too_long_is_known_by_its_tags(stage: Stage, cloud: AzureCloud) -> None:
    long = pool("p" * 60, market=["on-demand"])
    of = stage.provider.offers(long)[0]
    wanted = [f"{long.name}-{n}" for n in (1234, 1235)]
    for result in stage.provider.create([stage.request(name, of, long) for name in wanted]):
        made(result)
    assert sorted(i.node_id for i in stage.provider.list()[0].instances) == wanted


def test_no_launch_is_made_before_its_book_is_on_disk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("clusterctl_runtime.files.private.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        stage.provider.create([stage.request("cpu-1")])
    assert vms(stage.cloud) == []


def test_a_machine_that_another_cluster_has_under_that_name_is_told_and_left_alone(
    stage: Stage, cloud: AzureCloud
) -> None:
    request = stage.request("cpu-1")
    first = made(stage.provider.create([request])[0])
    (vm,) = vms(cloud)
    vm["tags"][TAG_UID] = "somebody-elses"
    for path in (stage.directory / "state" / "azure-launches").glob("*.json"):
        path.unlink()
    (answer,) = stage.open().create([request])
    assert isinstance(answer, BadRequest) and first.id in str(answer) and "another cluster" in str(answer)
    assert names(cloud) == [first.id] and DELETE not in cloud.world.operations()


def test_a_quota_of_nothing_is_told_by_name_without_a_launch(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.quotas["lowPriorityCores"] = 0.0
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=pool(market=["spot"]))])
    assert isinstance(answer, QuotaExceeded) and "Low-priority" in answer.quota, answer
    assert launches(cloud) == []


def test_an_answer_that_is_not_known_is_no_machine(stage: Stage, cloud: AzureCloud) -> None:
    cloud.fault(PUT, "cut", times=None)
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, UnknownOutcome) and vms(cloud) == []
    cloud.world.faults.clear()
    made(stage.open().create([stage.request("cpu-1")])[0])
    assert len(vms(cloud)) == 1 and LIST in cloud.world.operations()
