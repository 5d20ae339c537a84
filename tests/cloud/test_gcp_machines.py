"""Machines of the stand-in for Google Cloud: their metadata server, disks, logins and ends are what Compute Engine gives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.metadata import answer
from tests.cloud.gcp.requests import HERE, ZONE, instance, made
from tests.cloud.machines import CIDR
from tests.support.cluster import wait_until

FLAVOR = {"Metadata-Flavor": "Google"}
ACCOUNT = [{"email": "default", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}]
SCRIPT = """#!/bin/bash
ASK='import sys, urllib.request as r
url = "http://metadata.google.internal/computeMetadata/v1/instance/" + sys.argv[1]
print(r.urlopen(r.Request(url, headers={"Metadata-Flavor": "Google"})).read().decode())'
ask() { python3 -c "$ASK" "$1"; }
echo x >>/boots
echo "boot $(wc -l </boots | tr -d " ") of $(ask name) in $(ask zone): $(ask attributes/note)" >/dev/console
"""


class Lab:
    """`run` launches one instance, `on` runs a command there as user ubuntu by SSH."""

    def __init__(self, cloud: GcpCloud, machines: GcpMachines, directory: Path) -> None:
        self.cloud, self.machines, self.client, self.key = cloud, machines, cloud.client(), directory / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.public = " ".join(self.key.with_suffix(".pub").read_text().split()[:2])

    def run(self, name: str, script: str = "", **more: Any) -> str:
        """Its address."""
        items = {"ssh-keys": f"ubuntu:{self.public}", "note": "hello", **({"startup-script": script} if script else {})}
        metadata = {"items": [{"key": key, "value": value} for key, value in items.items()]}
        made(
            self.client,
            self.client.instances().insert(**HERE, body=instance(name, metadata=metadata, **more)).execute(),
        )
        return self.cloud.instance(f"{ZONE}/{name}").address

    def end(self, name: str) -> None:
        made(self.client, self.client.instances().delete(**HERE, instance=name).execute())

    def said(self, name: str) -> str:
        return self.client.instances().getSerialPortOutput(**HERE, instance=name).execute().get("contents", "")

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
    with GcpCloud(CIDR) as cloud, GcpMachines(cloud) as machines:
        found = Lab(cloud, machines, tmp_path_factory.mktemp("lab"))
        yield found


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    yield built
    for left in built.cloud.instances():  # of a test that failed
        built.end(left.name)


def test_the_startup_script_runs_at_every_boot_and_knows_its_instance(lab: Lab) -> None:
    lab.run("n1", SCRIPT)
    wait_until(lambda: f"boot 1 of n1 in projects/123456789012/zones/{ZONE}: hello" in lab.said("n1"))
    made(lab.client, lab.client.instances().stop(**HERE, instance="n1").execute())
    wait_until(lambda: not lab.machines.machines.ids())
    made(lab.client, lab.client.instances().start(**HERE, instance="n1").execute())
    wait_until(lambda: "boot 2 of n1" in lab.said("n1"), what="the second boot, with the disk of the first")
    lab.end("n1")
    wait_until(lambda: not lab.machines.machines.ids())


def test_an_instance_that_turns_itself_off_stays_terminated(lab: Lab) -> None:
    lab.run("n1", "#!/bin/sh\n[ -e /been ] && echo here again >/dev/console || { touch /been; poweroff; }\n")
    wait_until(lambda: [i.status for i in lab.cloud.instances()] == ["TERMINATED"])
    events = (
        lab.client.zoneOperations().list(**HERE, filter='operationType = "compute.instances.guestTerminate"').execute()
    )
    assert events["items"][0]["targetLink"].endswith("/n1")
    with pytest.raises(HttpError, match="is not ready"):
        lab.said("n1")
    made(lab.client, lab.client.instances().start(**HERE, instance="n1").execute())
    wait_until(lambda: "here again" in lab.said("n1"), what="its disk at the next boot")
    lab.end("n1")


def test_a_preemption_is_announced_and_maintenance_too(lab: Lab) -> None:
    spot = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
    address = lab.run("n1", scheduling=spot, serviceAccounts=ACCOUNT)
    ask = "curl -sf -H 'Metadata-Flavor: Google' http://metadata/computeMetadata/v1/instance"
    assert lab.on(address, f"{ask}/preempted") == "FALSE"
    assert lab.on(address, f"{ask}/service-accounts/default/token").startswith('{"access_token": "ya29.')
    assert lab.on(address, f"{ask}/attributes/") == "note\nssh-keys"
    lab.cloud.warn(f"{ZONE}/n1")
    assert lab.on(address, f"{ask}/maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE"
    lab.cloud.world.preempt_seconds = 60.0
    lab.cloud.preempt(f"{ZONE}/n1")
    assert lab.on(address, f"{ask}/preempted") == "TRUE"
    lab.end("n1")


def test_a_disk_keeps_its_files_from_one_machine_to_the_next(lab: Lab) -> None:
    made(lab.client, lab.client.disks().insert(**HERE, body={"name": "d", "sizeGb": "10"}).execute())
    device = "/dev/disk/by-id/google-data"
    for name, command in (("n1", "mkfs.ext4 -q {d} && mount {d} /mnt && echo kept >/mnt/it"), ("n2", "mount {d} /mnt")):
        address = lab.run(name)
        body = {"source": f"zones/{ZONE}/disks/d", "deviceName": "data"}
        made(lab.client, lab.client.instances().attachDisk(**HERE, instance=name, body=body).execute())
        wait_until(lambda at=address: lab.ssh(at, f"test -b {device}").returncode == 0)
        lab.on(address, f"sudo sh -c '{command.format(d=device)}'")
        if name == "n2":
            assert lab.on(address, "cat /mnt/it") == "kept"
        lab.end(name)
    made(lab.client, lab.client.disks().delete(**HERE, disk="d").execute())
    assert lab.cloud.leftovers() == []


def test_the_metadata_server_answers_only_who_asks_as_google_wants() -> None:
    facts = {"instance/name": "n1", "instance/attributes/a": "b"}
    asked = answer("GET", "/computeMetadata/v1/instance/name", FLAVOR, facts)
    assert (asked.status, asked.text) == (200, "n1") and asked.headers["Metadata-Flavor"] == "Google"
    for path, headers, status in (
        ("/computeMetadata/v1/instance/name", {}, 403),
        ("/computeMetadata/v1/instance/name", {**FLAVOR, "X-Forwarded-For": "192.0.2.1"}, 403),
        ("/computeMetadata/v1/instance/colour", FLAVOR, 404),
        ("/computeMetadata/v1/instance/name?wait_for_change=true", FLAVOR, 400),
        ("/", {}, 200),
    ):
        assert answer("GET", path, headers, facts).status == status, path
