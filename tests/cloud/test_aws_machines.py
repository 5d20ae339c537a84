"""Machines of the stand-in for AWS: their disks, addresses, logins and metadata are what EC2 gives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.machines import CIDR
from tests.support.cluster import wait_until

AMI = "ami-0ubuntu2404amd0001"


class Lab:
    """`run` launches one instance, `on` runs a command there as user ubuntu by SSH."""

    def __init__(self, cloud: AwsCloud, machines: AwsMachines, directory: Path) -> None:
        self.cloud, self.machines, self.ec2, self.key = cloud, machines, cloud.client(), directory / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.ec2.import_key_pair(KeyName="me", PublicKeyMaterial=self.key.with_suffix(".pub").read_bytes())
        (self.subnet, *_) = self.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [cloud.vpc]}])["Subnets"]
        self.zone = self.subnet["AvailabilityZone"]

    def run(self, **more: Any) -> dict[str, Any]:
        what = {"ImageId": AMI, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "KeyName": "me",
                "SubnetId": self.subnet["SubnetId"], **more}  # fmt: skip
        return self.ec2.run_instances(**what)["Instances"][0]

    def ssh(self, address: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        plain = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=3"]
        return subprocess.run(
            [*argv, *(options or plain), f"ubuntu@{address}", command], capture_output=True, text=True, timeout=120
        )

    def on(self, address: str, command: str) -> str:
        done = wait_until(lambda: (found := self.ssh(address, command)).returncode != 255 and found)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, volume: str) -> str:
        return str(self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with credentials(), AwsCloud(CIDR, public=True) as cloud, AwsMachines(cloud) as machines:
        yield Lab(cloud, machines, tmp_path_factory.mktemp("lab"))
        assert cloud.world.violations == []


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    yield built
    if left := [instance.id for instance in built.cloud.instances("pending", "running")]:  # of a test that failed
        built.ec2.terminate_instances(InstanceIds=left)
        wait_until(lambda: not set(left) & set(built.machines.machines.ids()))


def test_a_volume_keeps_its_files_from_one_machine_to_the_next(lab: Lab) -> None:
    volume = lab.ec2.create_volume(AvailabilityZone=lab.zone, Size=1, VolumeType="gp3")["VolumeId"]
    device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    first, second = lab.run(), lab.run()
    for made, command in (
        (first, "mkfs.ext4 -q {d} && mount {d} /mnt && echo kept > /mnt/it"),
        (second, "mount {d} /mnt"),
    ):
        lab.on(made["PrivateIpAddress"], "true")
        lab.ec2.attach_volume(VolumeId=volume, InstanceId=made["InstanceId"], Device="/dev/sdf")
        address, inner = made["PrivateIpAddress"], command.format(d=device)
        wait_until(lambda a=address: lab.ssh(a, f"test -b {device}").returncode == 0)
        lab.on(address, f"sudo sh -c '{inner}'")
        if made is first:
            lab.ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
            wait_until(lambda: lab.state(volume) == "available")
    assert lab.on(second["PrivateIpAddress"], "cat /mnt/it; ls /dev | grep -c vda || true").split() == ["kept", "0"]
    lab.ec2.detach_volume(VolumeId=volume)
    wait_until(lambda: lab.machines.machines.disks.busy)
    assert lab.state(volume) == "in-use", "it is mounted"
    lab.on(second["PrivateIpAddress"], "sudo umount /mnt")
    wait_until(lambda: lab.state(volume) == "available")
    assert lab.ssh(second["PrivateIpAddress"], f"test -e {device}").returncode == 1
    lab.ec2.delete_volume(VolumeId=volume)
    lab.ec2.terminate_instances(InstanceIds=[second["InstanceId"]])
    assert not Path("/dev/disk/by-id").exists() or not list(Path("/dev/disk/by-id").glob("*Elastic*"))


def test_a_machine_is_reached_by_its_public_address_too_and_reaches_the_clouds_api(lab: Lab) -> None:
    made = lab.run(PrivateIpAddress=lab.subnet["CidrBlock"].replace("0/24", "77"))
    assert made["PrivateIpAddress"].endswith(".77")
    with pytest.raises(ClientError, match=r"Address .* is in use"):
        lab.run(PrivateIpAddress=made["PrivateIpAddress"])
    (row,) = lab.ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"]
    public = row["Instances"][0]["PublicIpAddress"]
    assert lab.on(public, "sudo -n id -un; hostname -I").split()[:2] == ["root", made["PrivateIpAddress"]]
    host, port = lab.cloud.url.removeprefix("http://").split(":")
    assert lab.on(public, f"timeout 5 bash -c '</dev/tcp/{host}/{port}' && echo yes") == "yes"
    lab.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    again = wait_until(lambda: lab.run(PrivateIpAddress=made["PrivateIpAddress"]))
    lab.ec2.terminate_instances(InstanceIds=[again["InstanceId"]])


def test_a_host_key_from_the_user_data_is_the_one_that_sshd_shows(lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    script = f"""#!/bin/bash
cat >/etc/ssh/ssh_host_ed25519_key <<'KEY'
{(tmp_path / "host").read_text()}KEY
rm -f /etc/ssh/ssh_host_*.pub
systemctl restart ssh
echo the key is in >/dev/console
"""
    made = lab.run(UserData=script)
    address = made["PrivateIpAddress"]
    (tmp_path / "known").write_text(f"{address} {(tmp_path / 'host.pub').read_text()}")
    strict = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={tmp_path / 'known'}",
              "-o", "HostKeyAlgorithms=ssh-ed25519"]  # fmt: skip
    wait_until(lambda: lab.ssh(address, "true", *strict).returncode == 0)
    said = lambda: lab.ec2.get_console_output(InstanceId=made["InstanceId"])["Output"]  # noqa: E731
    wait_until(lambda: "the key is in" in said())
    lab.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    wait_until(lambda: made["InstanceId"] not in lab.machines.machines.ids())
    assert "the key is in" in said(), "EC2 shows it for a while after the end"
