"""The head on an instance: a machine like every other, with a disk that outlives it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.ec2.models.instances import Instance

from tests.aws.cluster import CloudHeadCluster
from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.machines import CIDR, NAMES
from tests.support.cluster import wait_until
from tests.support.talk import ECHO, Forwarder, talk

POOL = "  - {name: cpu, instances: [t3.micro], min: 1, max: 3, idle_timeout: 30m}"
NO_WORKERS = "  - {name: cpu, instances: [t3.micro], max: 3, idle_timeout: 30m}"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
Make = Callable[..., CloudHeadCluster]

# The aws command as far as it is a ProxyCommand: finds the instance's address, and is a pipe to it.
AWS_COMMAND = """\
#!{python}
import os, select, socket, sys
import boto3
words = sys.argv[1:]
option = "--target" if words[:2] == ["ssm", "start-session"] else "--instance-id"
with open("{log}", "a") as log:
    log.write(" ".join(words) + "\\n")
ec2 = boto3.client("ec2", region_name="us-east-1", endpoint_url="{url}")
found = ec2.describe_instances(InstanceIds=[words[words.index(option) + 1]])["Reservations"][0]["Instances"][0]
line = socket.create_connection((found["PrivateIpAddress"], 22))
while True:
    ready, _, _ = select.select([0, line], [], [])
    for source in ready:
        data = os.read(0, 65536) if source == 0 else line.recv(65536)
        if not data:
            sys.exit()
        line.sendall(data) if source == 0 else os.write(1, data)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    clusters: list[CloudHeadCluster] = []
    with credentials(), AwsCloud(CIDR, public=True) as cloud, AwsMachines(cloud) as machines:
        cloud.world.boot_seconds = 0.3

        def make(pools: str = NO_WORKERS, where: str = "") -> CloudHeadCluster:
            clusters.append(CloudHeadCluster(tmp_path, cloud, machines, pools, where))
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.clean_up()
        assert cloud.world.violations == []


def user_data(cluster: CloudHeadCluster) -> str:
    """Of the head's instance, as whoever may read its attributes reads it."""
    instance = cluster.heads()[0].id
    told = cluster.cloud.client().describe_instance_attribute(InstanceId=instance, Attribute="userData")
    return base64.b64decode(told["UserData"]["Value"]).decode()


def test_up_runs_the_head_on_an_instance_and_down_leaves_nothing(make: Make) -> None:
    cluster = make(POOL)
    cluster.up()
    job = cluster.submit("--cpus", "1", "--", "hostname")
    cluster.wait_job(job, "succeeded")
    assert cluster.cli("logs", job).stdout.startswith(NAMES)
    (head,) = cluster.heads()
    (volume,) = cluster.volumes()
    assert volume["Encrypted"] and volume["VolumeType"] == "gp3" and volume["Attachments"][0]["InstanceId"] == head.id
    before = len(cluster.cloud.world.calls)
    since = cluster.cloud.world.actions_by("user").copy()
    done = cluster.cli("up", str(cluster.spec), "-y", "--json")
    assert json.loads(done.stdout)["head"] == "running"
    assert cluster.cloud.world.actions_by("user") == since, "with nothing to do the head alone is asked"
    assert "ec2:RunInstances" not in cluster.cloud.world.actions(before)
    refused = cluster.cli("exec", "cpu-1", "--", "true", code=1)
    assert "clusterctl submit --pool cpu" in refused.stderr
    check_forward(cluster)
    check_dev(cluster)
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def check_forward(cluster: CloudHeadCluster) -> None:
    """To a worker, which has no SSH, from the head's machine."""
    script = f"python3 -u -c '{ECHO}' 127.0.0.1 7071 & exec python3 -u -c '{ECHO}' 0.0.0.0 7070"
    job = cluster.submit("--pool", "cpu", "--", "sh", "-c", script)
    wait_until(lambda: {"7070", "7071"} <= {*cluster.cli("logs", job).stdout.split()}, what="both listen")
    forwarder = Forwarder(cluster.start("forward", "--json", "0:7070", "0:7071", job), 2)
    try:
        assert talk(forwarder.ports[0], b"hello") == b"hellobye"
        assert talk(forwarder.ports[1], b"hello") == b""
        forwarder.wait_said("What listens on 127.0.0.1 of a cloud's worker alone is not reached")
    finally:
        forwarder.process.kill()
        forwarder.process.communicate()
    cluster.cli("job", "cancel", job)


def check_dev(cluster: CloudHeadCluster) -> None:
    """A shell on a worker, where nothing else logs in."""
    shell = cluster.start("dev", "--pool", "cpu", stdin=subprocess.PIPE)
    said, told = shell.communicate("echo on-$CLUSTERCTL_NODE_ID; hostname -I\n")
    (worker,) = cluster.ready_nodes()
    assert said.split() == [f"on-{worker['id']}", worker["address"]], told
    assert f"a shell on {worker['id']};" in told and f"{worker['id']} is let go" in told


def test_the_host_key_of_the_user_data_is_good_for_one_login(make: Make) -> None:
    cluster = make()
    cluster.up()
    text = json.loads(user_data(cluster).rpartition("#clusterctl-document\n")[2])["boot"]["head"]["host_key"]
    assert text.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert cluster.on_head("sh", "-c", "sudo cat /etc/ssh/ssh_host_*_key").stdout != text
    assert not list((cluster.home_of_it / "ssh").glob("host-*")), "nobody keeps it here"
    token = json.loads((cluster.home_of_it / "client.json").read_text())["token"]
    assert token not in user_data(cluster)
    # Somebody who has read it takes the machine's place.
    private = base64.b64encode(text.encode()).decode()
    cluster.as_root(
        f"echo {private} | base64 -d >{HOST_KEY}; rm {HOST_KEY}.pub; : >/var/log/sshd.log; systemctl restart ssh"
    )
    wait_until(lambda: "not the one pinned" in cluster.on_head("true", code=None).stderr, what="its refusal")
    heard = [line for line in cluster.as_root("cat /var/log/sshd.log").splitlines() if "[preauth]" in line]
    assert heard and not any("user" in line for line in heard), "not even who wanted to log in"
    cluster.stop_tunnel()
    assert "not the one pinned" in cluster.cli("status", code=4).stderr
    cluster.down()
    assert cluster.cloud.leftovers() == [], "what the head can no longer be asked for is ended from here"


def test_a_head_that_loses_its_machine_is_replaced_with_its_queue(make: Make) -> None:
    cluster = make(POOL)
    cluster.up()
    (worker,) = cluster.ready_nodes()
    running = cluster.submit("--cpus", "2", "--", "sh", "-c", "sleep 12; hostname")
    cluster.wait_job(running, "running")
    queued = [cluster.submit("--cpus", "2", "--pool", "cpu", "--", "hostname") for _ in range(2)]
    (before,) = cluster.heads()
    cluster.cloud.client().terminate_instances(InstanceIds=[before.id])
    said = wait_until(lambda: "cannot be reached" in (text := cluster.cli("status", code=None).stderr) and text)
    assert f"`clusterctl up {cluster.spec}`" in said and "replaces an instance that is gone" in said
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert f"({before.id}) is gone" in done.stderr
    (after,) = cluster.heads()
    assert after.id != before.id and after.private_ip == before.private_ip, "so the nodes find it"
    for job in (running, *queued):
        cluster.wait_job(job, "succeeded")
    assert len(cluster.job(running)["attempts"]) == 1, "what ran was not disturbed"
    assert worker["instance_id"] in {node["instance_id"] for node in cluster.ready_nodes()}
    assert len(cluster.volumes()) == 1
    cluster.down()
    assert cluster.cloud.leftovers() == []


def taken(cluster: CloudHeadCluster, head: Instance) -> str:
    """The id of an instance of somebody else that has got the address of this head, which is gone."""
    (launched,) = cluster.cloud.client().run_instances(
        ImageId=head.image_id,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId=head.subnet_id,
        PrivateIpAddress=head.private_ip,
    )["Instances"]
    return str(launched["InstanceId"])


def test_a_head_whose_address_was_taken_gets_another_and_its_nodes_are_replaced(make: Make) -> None:
    cluster = make(POOL)
    cluster.up()
    (worker,) = cluster.ready_nodes()
    job = cluster.submit("--cpus", "2", "--pool", "cpu", "--", "sh", "-c", "sleep 8; hostname")
    cluster.wait_job(job, "running")
    (before,) = cluster.heads()
    ec2 = cluster.cloud.client()
    ec2.terminate_instances(InstanceIds=[before.id])
    wait_until(lambda: not cluster.heads(), what="it is gone")
    taker = taken(cluster, before)
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert f"{before.private_ip}, the head's address, is taken by {taker}" in done.stderr
    (after,) = cluster.heads()
    assert after.private_ip != before.private_ip
    (successor,) = cluster.ready_nodes()
    assert successor["instance_id"] != worker["instance_id"], "it waits for no lease to run out"
    told = cluster.json("events", "--subject", worker["id"])["events"]
    (moved,) = [event for event in told if event["code"] == "head_moved"]
    assert f"it dials {before.private_ip}, where the head is no longer" in moved["text"]
    attempts = cluster.wait_job(job, "succeeded")["attempts"]
    assert [attempt["state"] for attempt in attempts] == ["lost", "succeeded"]
    cluster.down()
    ec2.terminate_instances(InstanceIds=[taker])
    wait_until(lambda: cluster.cloud.leftovers() == [], what="nothing is left")


def test_workers_of_a_head_that_was_lost_before_its_first_login_are_replaced(make: Make) -> None:
    cluster = make(POOL)
    cluster.machines.never_boots = True
    cluster.kill_when("waiting for SSH", "up", str(cluster.spec), "-y")
    (before,) = cluster.heads()
    (worker,) = (instance for instance in cluster.cloud.instances() if instance.id != before.id)
    ec2 = cluster.cloud.client()
    ec2.terminate_instances(InstanceIds=[before.id])
    wait_until(lambda: not cluster.heads(), what="it is gone")
    cluster.machines.never_boots = False
    taker = taken(cluster, before)
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert f"cpu-1 is replaced: it dials {before.private_ip}" in done.stderr
    (node,) = cluster.ready_nodes()
    assert node["instance_id"] != worker.id
    wait_until(lambda: len(cluster.cloud.instances()) == 3, what="the first worker is ended")
    cluster.down()
    ec2.terminate_instances(InstanceIds=[taker])
    wait_until(lambda: cluster.cloud.leftovers() == [], what="nothing is left")


def test_a_worker_whose_launch_nobody_heard_of_is_made_later_and_finds_the_head(make: Make) -> None:
    cluster = make(POOL)
    fault = cluster.cloud.fault("RunInstances", "cut", times=None, match="cpu-1")
    cluster.kill_when("launching 1 nodes", "up", str(cluster.spec), "-y")
    cluster.cloud.world.faults.remove(fault)
    cluster.up()
    assert len(cluster.cloud.instances()) == 2 and len(cluster.ready_nodes()) == 1
    cluster.down()


def test_an_up_killed_anywhere_is_finished_by_the_next_with_one_head(make: Make) -> None:
    cluster = make(POOL)
    for line in ("launching the head", "launching 1 nodes", "starting the head"):
        cluster.kill_when(line, "up", str(cluster.spec), "-y")
    cluster.up()
    assert len(cluster.heads()) == 1 and len(cluster.cloud.instances()) == 2 and len(cluster.volumes()) == 1
    cluster.wait_job(cluster.submit("--cpus", "1", "--", "true"), "succeeded")
    cluster.kill_when("instances left", "down", cluster.name, "-y")
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert "was interrupted: it is finished first" in done.stderr
    assert len(cluster.heads()) == 1 and len(cluster.volumes()) == 1
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_the_head_is_reached_by_the_ways_of_aws_and_by_its_private_address(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make(where="reach: ssm")
    cluster.env["PATH"] = "/usr/bin:/bin"
    refused = cluster.cli("up", str(cluster.spec), "-y", code=1).stderr
    assert "'aws' is not on PATH" in refused and "'session-manager-plugin' is not on PATH" in refused
    assert cluster.cloud.leftovers() == [], "it is said before anything costs money"
    log = tmp_path / "aws.log"
    command = tmp_path / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(AWS_COMMAND.format(python=sys.executable, url=cluster.cloud.url, log=log))
    command.chmod(0o755)
    (command.parent / "session-manager-plugin").symlink_to("/bin/true")
    cluster.env["PATH"] = f"{command.parent}:{cluster.env['PATH']}"
    cluster.up()
    (head,) = cluster.heads()
    start = f"ssm start-session --target {head.id} --document-name AWS-StartSSHSession --parameters portNumber=22"
    assert log.read_text().startswith(start)
    assert not head.public_ip
    cluster.spec.write_text(cluster.spec.read_text().replace("reach: ssm", "reach: instance-connect"))
    cluster.up()
    assert log.read_text().splitlines()[-1].startswith(f"ec2-instance-connect open-tunnel --instance-id {head.id}")
    cluster.spec.write_text(cluster.spec.read_text().replace("reach: instance-connect", "reach: private"))
    used = len(log.read_text())
    cluster.up()
    assert cluster.on_head("true").returncode == 0 and len(log.read_text()) == used
    cluster.spec.write_text(cluster.spec.read_text().replace("instance: t3.large", "instance: t3.xlarge"))
    cluster.up()
    assert [i.id for i in cluster.cloud.instances()] == [head.id], "a head does not replace the machine that it runs on"
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_a_cluster_ends_itself_with_its_heads_machine_last_and_up_brings_its_jobs_back(make: Make) -> None:
    cluster = make(POOL)
    cluster.spec.write_text(cluster.spec.read_text() + "lifetime: {after_last_job: 1s}\n")
    cluster.up()
    assert cluster.cli("submit", "--submission-id", "one", "--cpus", "1", "--", "echo", "hello").stdout == "hello\n"
    wait_until(lambda: not cluster.cloud.instances(), what="it has ended itself")
    assert len(cluster.volumes()) == 1, "its queue and its logs stay"
    status = cluster.json("status")
    assert status["state"] == "ended" and "1 s after its last job" in status["reason"]
    assert status["ended"]["disk"] in status["reason"] and "its head's disk of 20 GiB" in status["reason"]
    assert "it is started again, with its jobs" in cluster.cli("up", str(cluster.spec), "-y").stderr
    assert cluster.cli("logs", "one").stdout == "hello\n" and cluster.status()["lifetime"]["ends_at"] is None
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []
