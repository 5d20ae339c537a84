"""Machines of the stand-in for Azure: their metadata service, disks, logins and ends are what Azure gives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.msi import ManagedServiceIdentityClient

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machines import AzureMachines
from tests.cloud.azure.metadata import answer
from tests.cloud.azure.requests import GROUP, SPOT, Azure, card, vm
from tests.cloud.machines import CIDR
from tests.support.cluster import wait_until

ASK = "curl -sf -H Metadata:true"
IMDS = "http://169.254.169.254/metadata"
SCRIPT = f"""#!/bin/bash
{ASK} '{IMDS}/instance/compute/name?api-version=2021-02-01&format=text' >/name
echo "first boot of $(cat /name)" >/dev/console
mkdir -p /var/lib/cloud/scripts/per-boot
printf '#!/bin/sh\\necho x >>/boots\\necho "boot $(wc -l </boots) here" >/dev/console\\n' >/var/lib/cloud/scripts/per-boot/say
chmod +x /var/lib/cloud/scripts/per-boot/say
"""


class Lab(Azure):
    """`run` launches one machine, `on` runs a command there as its user by SSH."""

    def __init__(self, cloud: AzureCloud, machines: AzureMachines, directory: Path) -> None:
        super().__init__(cloud, CIDR)
        self.machines, self.key = machines, directory / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.public = " ".join(self.key.with_suffix(".pub").read_text().split()[:2])

    def run(self, name: str, script: str = "", public: bool = False, **more: Any) -> str:
        """Its address."""
        body = vm(name, papers=script.encode(), diagnosticsProfile={"bootDiagnostics": {"enabled": True}}, **more)
        properties = body["properties"]
        properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"] = self.public
        properties["networkProfile"]["networkInterfaceConfigurations"] = [card(name, public)]
        self.compute.virtual_machines.begin_create_or_update(GROUP, name, body).result()
        interface = self.cloud.cards.of(self.cloud.machine(name).resource)[0]
        return str(interface["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"])

    def said(self, name: str) -> str:
        """What it wrote to its console, from where Azure keeps that."""
        links = self.compute.virtual_machines.retrieve_boot_diagnostics_data(GROUP, name)
        found = requests.get(str(links.serial_console_log_blob_uri), verify=str(self.cloud.ca_file), timeout=30)
        return found.text if found.ok else ""

    def ssh(self, address: str, command: str) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=3"]
        plain = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return subprocess.run(
            [*argv, *plain, f"ubuntu@{address}", command], capture_output=True, text=True, timeout=120
        )

    def on(self, address: str, command: str) -> str:
        ended = wait_until(lambda: (found := self.ssh(address, command)).returncode != 255 and found)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with AzureCloud() as cloud, AzureMachines(cloud) as machines:
        yield Lab(cloud, machines, tmp_path_factory.mktemp("lab"))


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    yield built
    built.cloud.world.preempt_seconds = 0.0
    for left in built.cloud.machines():  # of a test that failed
        built.delete(left.name)


def test_the_custom_data_run_once_and_the_disk_stays_through_a_deallocation(lab: Lab) -> None:
    lab.run("n1", SCRIPT)
    wait_until(lambda: "first boot of n1" in lab.said("n1"))
    lab.compute.virtual_machines.begin_deallocate(GROUP, "n1").result()
    assert lab.codes() == ["ProvisioningState/succeeded", "PowerState/deallocated"]
    wait_until(lambda: not lab.machines.machines.ids())
    lab.compute.virtual_machines.begin_start(GROUP, "n1").result()
    wait_until(lambda: "boot 1 here" in lab.said("n1"), what="the second boot, with the disk of the first")
    assert "first boot" not in lab.said("n1")
    lab.delete()
    wait_until(lambda: not lab.machines.machines.ids())


def test_a_machine_that_turns_itself_off_is_stopped_and_keeps_its_room(lab: Lab) -> None:
    lab.run("n1", "#!/bin/sh\npoweroff\n")
    wait_until(lambda: lab.codes()[1:] == ["PowerState/stopped"])
    assert lab.cloud.machine("n1").holds
    lab.delete()


def test_an_eviction_is_announced_and_the_machine_is_gone_when_its_time_is_up(lab: Lab) -> None:
    address = lab.run("n1", **SPOT)
    ask = f"{ASK} '{IMDS}/scheduledevents?api-version=2020-07-01'"
    assert json.loads(lab.on(address, ask))["Events"] == []
    lab.cloud.world.preempt_seconds = 600.0
    lab.cloud.evict("n1")
    (event,) = json.loads(lab.on(address, ask))["Events"]
    assert (event["EventType"], event["Resources"], event["EventStatus"]) == ("Preempt", ["n1"], "Scheduled")
    lab.cloud.world.preempt_seconds = 0.0
    lab.cloud.evict("n1")
    assert lab.cloud.machines() == []
    wait_until(lambda: not lab.machines.machines.ids())
    assert not [id_ for id_ in lab.cloud.leftovers() if "virtualNetworks" not in id_ and "/providers/" in id_]


def test_a_machine_gets_tokens_of_its_identity_and_calls_azure_with_them(lab: Lab) -> None:
    identities = lab.cloud.client(ManagedServiceIdentityClient).user_assigned_identities
    identity = identities.create_or_update(GROUP, "head", {"location": "eastus"})
    address = lab.run("n1", identity={"type": "UserAssigned", "userAssignedIdentities": {identity.id: {}}})
    ask = f"{ASK} '{IMDS}/identity/oauth2/token?api-version=2018-02-01&resource={lab.cloud.url}'"
    found = json.loads(lab.on(address, ask))
    assert found["client_id"] == identity.client_id and found["token_type"] == "Bearer"
    assert lab.cloud.tokens.principal(f"Bearer {found['access_token']}").object_id == identity.principal_id
    assert lab.ssh(address, ask.replace("-H Metadata:true", "")).returncode == 22  # 400: the header is missing
    lab.delete()
    identities.delete(GROUP, "head")


def test_a_disk_keeps_its_files_from_one_machine_to_the_next(lab: Lab) -> None:
    body: Any = {"location": "eastus", "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 10}}
    disk = lab.compute.disks.begin_create_or_update(GROUP, "d", body).result()
    device = "/dev/disk/azure/scsi1/lun7"
    for name, command in (("n1", "mkfs.ext4 -q {d} && mount {d} /mnt && echo kept >/mnt/it"), ("n2", "mount {d} /mnt")):
        address = lab.run(name)
        attach: Any = {"dataDisksToAttach": [{"diskId": disk.id, "lun": 7}]}
        lab.compute.virtual_machines.begin_attach_detach_data_disks(GROUP, name, attach).result()
        wait_until(lambda at=address: lab.ssh(at, f"test -b {device}").returncode == 0)
        lab.on(address, f"sudo sh -c '{command.format(d=device)}'")
        if name == "n2":
            assert lab.on(address, "cat /mnt/it") == "kept"
        with pytest.raises(HttpResponseError, match="is attached to VM"):
            lab.compute.disks.begin_delete(GROUP, "d")
        lab.delete(name)
    lab.compute.disks.begin_delete(GROUP, "d").result()


def test_a_public_address_leads_to_its_machine(lab: Lab) -> None:
    lab.run("n1", public=True)
    public = lab.network.public_ip_addresses.list(GROUP).next()
    assert lab.on(str(public.ip_address), "hostname") == "n1"
    lab.delete()


def test_the_metadata_service_answers_only_who_asks_as_azure_wants() -> None:
    facts = {"instance/compute/name": "n1", "instance/compute/location": "eastus"}
    good = {"Metadata": "true"}
    asked = answer("GET", "/metadata/instance/compute/name?api-version=2021-02-01&format=text", good, facts)
    assert (asked.status, asked.text) == (200, "n1")
    tree = answer("GET", "/metadata/instance?api-version=2021-02-01", good, facts)
    assert json.loads(tree.text) == {"compute": {"name": "n1", "location": "eastus"}}
    for path, headers, status in (
        ("/metadata/instance?api-version=2021-02-01", {}, 400),
        ("/metadata/instance?api-version=2021-02-01", {**good, "X-Forwarded-For": "192.0.2.1"}, 400),
        ("/metadata/instance", good, 400),
        ("/metadata/colour?api-version=2021-02-01", good, 404),
        ("/", good, 404),
    ):
        assert answer("GET", path, headers, facts).status == status, path
