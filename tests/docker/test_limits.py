"""A job that wants more than its container has is stopped in there, and its neighbour does not feel it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.docker.conftest import DockerCluster
from tests.support.cluster import wait_until

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE", pids: 120}}
engine: none
head: {resources: {CPU: 1, memory: 256MiB}}
pools: [{name: cpu, min: 2, max: 2, resources: {CPU: 1, memory: 192MiB}}]
"""
GREEDY = """
blocks = []
while len(blocks) < 512:
    blocks.append(bytearray(b"x") * 2**20)
print("had", len(blocks), "MiB")
"""
FORKER = """
import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError as error:
    print("stopped after", count, type(error).__name__)
os.killpg(0, 9)
"""
NEIGHBOUR = """
import os, sys, time
print("on", os.uname().nodename, flush=True)
while not os.path.exists(os.path.expanduser("/tmp/enough")):
    assert os.fork() != 0 or os._exit(0)
    os.wait()
    time.sleep(0.05)
print("undisturbed")
"""


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., DockerCluster], image: str) -> DockerCluster:
    return make_cluster(SPEC.replace("IMAGE", image))


def submit(cluster: DockerCluster, name: str, text: str, *more: str) -> str:
    path = cluster.directory / f"{name}.py"
    path.write_text(text)
    return cluster.submit("--pool", "cpu", "--cpus", "1", *more, str(path))


@pytest.mark.parametrize("greedy", [GREEDY, FORKER], ids=["memory", "processes"])
def test_a_job_beyond_its_nodes_limits_dies_in_there_and_its_neighbour_goes_on(
    cluster: DockerCluster, greedy: str
) -> None:
    neighbour = submit(cluster, "neighbour", NEIGHBOUR)
    wait_until(lambda: cluster.job(neighbour)["state"] == "running", what="the neighbour runs")
    (where,) = cluster.job(neighbour)["attempts"][0]["nodes"]
    before = {c.name: c.attrs["State"]["StartedAt"] for c in cluster.containers()}
    job = submit(cluster, "greedy", greedy)
    ended = cluster.wait_job(job, "failed")
    assert ended["attempts"][0]["nodes"] != [where]
    assert ended["exit_code"] == 137, ended["reason"]
    told = ended["attempts"][0]["reason"]
    if greedy is GREEDY:
        assert told.startswith(
            "was killed by the kernel for want of memory (signal 9): its node may use 192 MiB, its largest"
        )
        assert 100 < float(told.split("process had ")[1].split()[0]) < 192
    else:
        assert told == "was ended by signal 9", "no limit of memory was reached"
    said = cluster.cli("logs", job).stdout
    assert "had 512" not in said
    assert greedy is not FORKER or "BlockingIOError" in said
    after = submit(cluster, "after", "print('still here')\n")
    assert cluster.wait_job(after, "succeeded")["attempts"][0]["nodes"] == ended["attempts"][0]["nodes"], "it lives"
    cluster.cli("exec", where, "--", "touch", "/tmp/enough")
    assert len(cluster.wait_job(neighbour, "succeeded")["attempts"]) == 1
    assert "undisturbed" in cluster.cli("logs", neighbour).stdout
    cluster.cli("exec", where, "--", "rm", "/tmp/enough")
    assert {c.name: c.attrs["State"]["StartedAt"] for c in cluster.containers()} == before, "no container was replaced"


def test_a_container_gains_no_privileges(cluster: DockerCluster) -> None:
    script = 'sudo -n id -u; python3 -c "import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"'
    for node in ("head-1", "cpu-1"):
        done = cluster.cli("exec", node, "--", "su", "-s", "/bin/sh", "admin", "-c", script, code=None)
        assert done.stdout.split() == ["1"] and "no new privileges" in done.stderr
    for container in cluster.containers():
        assert "no-new-privileges" in (container.attrs["HostConfig"]["SecurityOpt"] or [])
