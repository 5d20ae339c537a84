"""The head on an instance: a machine like every other, with a disk and an address that outlive it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT
from tests.cloud.machines import CIDR
from tests.gcp.cluster import CloudHeadCluster
from tests.support.cluster import wait_until

POOL = "  - {name: cpu, instances: [e2-medium], min: 1, max: 3, idle_timeout: 30m}"
NO_WORKERS = "  - {name: cpu, instances: [e2-medium], max: 3, idle_timeout: 30m}"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
Make = Callable[..., CloudHeadCluster]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    clusters: list[CloudHeadCluster] = []
    with GcpCloud(CIDR) as cloud, cloud.credentials(), GcpMachines(cloud) as machines:
        cloud.world.boot_seconds = 0.3

        def make(pools: str = NO_WORKERS, where: str = "") -> CloudHeadCluster:
            clusters.append(CloudHeadCluster(tmp_path, cloud, machines, pools, where))
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.clean_up()
        assert cloud.world.violations == []


def boot_document(cluster: CloudHeadCluster) -> dict[str, object]:
    """Of the head's instance, as whoever may read its metadata reads it."""
    script = cluster.heads()[0].metadata["startup-script"]
    document: dict[str, object] = json.loads(script.rpartition("#clusterctl-document\n")[2])
    return document


def test_up_runs_the_head_on_an_instance_and_down_leaves_nothing(make: Make) -> None:
    cluster = make(POOL)
    cluster.up()
    job = cluster.submit("--cpus", "1", "--", "hostname")
    cluster.wait_job(job, "succeeded")
    assert cluster.cli("logs", job).stdout.strip()
    (head,) = cluster.heads()
    (disk,) = cluster.disks()
    assert disk["users"] == [head.body["selfLink"]] and head.address == cluster.address()
    since = cluster.cloud.world.actions_by("admin").copy()
    done = cluster.cli("up", str(cluster.spec), "-y", "--json")
    assert json.loads(done.stdout)["head"] == "running"
    assert cluster.cloud.world.actions_by("admin") == since, "with nothing to do the head alone is asked"
    refused = cluster.cli("exec", "cpu-1", "--", "true", code=1)
    assert "clusterctl submit --pool cpu" in refused.stderr
    cluster.spec.write_text(cluster.spec.read_text().replace("ssh_from: [", 'ssh_from: ["192.0.2.7", "2001:db8::7", '))
    cluster.up()
    assert {"192.0.2.7/32", "2001:db8::7/128"} < set(cluster.ssh_sources()), "port 22 moves with the spec"
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def test_the_host_key_of_the_metadata_is_good_for_one_login(make: Make) -> None:
    cluster = make()
    cluster.up()
    text = boot_document(cluster)["boot"]["head"]["host_key"]  # type: ignore[index]
    assert text.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert cluster.on_head("sh", "-c", "sudo cat /etc/ssh/ssh_host_*_key").stdout != text
    assert not list((cluster.home_of_it / "ssh").glob("host-*")), "nobody keeps it here"
    token = json.loads((cluster.home_of_it / "client.json").read_text())["token"]
    assert token not in json.dumps(boot_document(cluster))
    # Somebody who has read it takes the machine's place.
    private = base64.b64encode(text.encode()).decode()
    cluster.as_root(
        f"echo {private} | base64 -d >{HOST_KEY}; rm {HOST_KEY}.pub; : >/var/log/sshd.log; systemctl restart ssh"
    )
    wait_until(lambda: "not the one pinned" in cluster.on_head("true", code=None).stderr, what="its refusal")
    cluster.stop_tunnel()
    assert "not the one pinned" in cluster.cli("status", code=4).stderr
    cluster.down()
    assert cluster.cloud.leftovers() == [], "what the head can no longer be asked for is ended from here"


def test_a_head_that_loses_its_machine_is_replaced_with_its_queue_disk_and_address(make: Make) -> None:
    cluster = make(POOL)
    cluster.up()
    (worker,) = cluster.ready_nodes()
    running = cluster.submit("--cpus", "2", "--", "sh", "-c", "sleep 12; hostname")
    cluster.wait_job(running, "running")
    queued = [cluster.submit("--cpus", "2", "--pool", "cpu", "--", "hostname") for _ in range(2)]
    (before,), (disk,) = cluster.heads(), cluster.disks()
    number, address = before.id, before.address
    cluster.delete(before)
    said = str(wait_until(lambda: "cannot be reached" in (text := cluster.cli("status", code=None).stderr) and text))
    assert f"`clusterctl up {cluster.spec}`" in said and "replaces an instance that is gone" in said
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert f"({before.handle}) is gone" in done.stderr
    (after,) = cluster.heads()
    assert after.id != number and after.address == address, "so the nodes find it"
    for job in (running, *queued):
        cluster.wait_job(job, "succeeded")
    assert len(cluster.job(running)["attempts"]) == 1, "what ran was not disturbed"
    assert worker["instance_id"] in {node["instance_id"] for node in cluster.ready_nodes()}
    assert [one["id"] for one in cluster.disks()] == [disk["id"]]
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_a_head_whose_machine_was_stopped_and_started_goes_on_and_one_that_stays_off_is_replaced(make: Make) -> None:
    """Google restarts a machine whose host failed or was maintained; one that turned itself off it keeps, with its disks and its
    address, until somebody deletes it."""
    cluster = make()
    cluster.up()
    cluster.cloud.world.capacity["e2-medium/*/*"] = 0
    job = cluster.submit("--cpus", "1", "--", "hostname")
    (head,), (disk,) = cluster.heads(), cluster.disks()
    number, address = head.id, head.address
    instances = cluster.cloud.client("compute", "v1").instances()
    where = {"project": PROJECT, "zone": head.zone, "instance": head.name}
    (process,) = cluster.machines.machines.pids()
    instances.stop(**where).execute()
    wait_until(lambda: cluster.cloud.instances("TERMINATED") and not psutil.pid_exists(process), what="it is off")
    instances.start(**where).execute()
    cluster.up()
    assert [i.id for i in cluster.heads()] == [number] and cluster.job(job)["state"] == "queued"
    cluster.as_root("(sleep 0.2; poweroff) >/dev/null 2>&1 &")
    wait_until(lambda: cluster.cloud.instances("TERMINATED"), what="it is off")
    cluster.up()
    (after,) = cluster.cloud.instances("RUNNING", "STAGING", "PROVISIONING", "STOPPING", "TERMINATED")
    assert after.id != number and after.address == address
    assert [one["id"] for one in cluster.disks()] == [disk["id"]]
    assert cluster.job(job)["state"] == "queued", "its queue is as it was"
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_an_up_killed_anywhere_is_finished_by_the_next_with_one_head(make: Make) -> None:
    cluster = make(POOL)
    for line in ("launching the head", "launching 1 nodes", "starting the head"):
        cluster.kill_when(line, "up", str(cluster.spec), "-y")
    cluster.up()
    assert len(cluster.heads()) == 1 and len(cluster.cloud.instances()) == 2 and len(cluster.disks()) == 1
    cluster.wait_job(cluster.submit("--cpus", "1", "--", "true"), "succeeded")
    cluster.kill_when("instances left", "down", cluster.name, "-y")
    done = cluster.cli("up", str(cluster.spec), "-y")
    assert "was interrupted: it is finished first" in done.stderr
    assert len(cluster.heads()) == 1 and len(cluster.disks()) == 1
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_a_cluster_ends_itself_with_its_heads_machine_last_and_down_removes_the_rest(make: Make) -> None:
    cluster = make(POOL)
    cluster.spec.write_text(cluster.spec.read_text() + "lifetime: {after_last_job: 1s}\n")
    cluster.up()
    assert cluster.cli("submit", "--submission-id", "one", "--cpus", "1", "--", "echo", "hello").stdout == "hello\n"
    wait_until(lambda: not cluster.cloud.instances(), what="it has ended itself")
    assert len(cluster.disks()) == 1, "its queue and its logs stay"
    status = cluster.json("status")
    assert status["state"] == "ended" and "1 s after its last job" in status["reason"]
    assert status["ended"]["disk"] in status["reason"] and "its head's disk of 20 GiB" in status["reason"]
    done = cluster.cli("down", cluster.name, "-y")
    assert "had ended itself" in done.stderr and "the head of cluster" not in done.stderr
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []
