"""SSH hosts: a cluster with Ray against `ray up` on the same hosts in the same run, `up` with nothing to do, many hosts at
once, and a parked host that becomes a node."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.rows import Row, row
from tests.ssh.cluster import ROOT, USER, SshCluster
from tests.support.cluster import wait_until
from tests.support.docker_engine import running_engine
from tests.support.ssh_hosts import SshHost, SshHosts, start_with_environment

RAY = str(Path(sys.executable).parent / "ray")
PEER_SECONDS = 180.0
COUNTS = (1, 4, 16, 64)
# Prints how many nodes Ray's head says are alive, with the time, whenever that changes.
COUNT = """
import sys, time
from ray._raylet import GcsClient
client, before = None, 0
while True:
    try:
        client = client or GcsClient(address=sys.argv[1])
        count = sum(node.state == 0 for node in client.get_all_node_info(timeout=2).values())
    except Exception:
        client, count = None, 0
    if count != before:
        print(count, time.time(), flush=True)
        before = count
    time.sleep(0.1)
"""


def run() -> list[Row]:
    return [*_with_ray(), *_many()]


def _with_ray() -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as directory,
        running_engine() as engine,
        SshHosts(engine, Path(directory)) as made,
    ):
        hosts = start_with_environment(made, 4)
        ours, again = _ours(Path(directory) / "ours", hosts)
        peer = _peer(Path(directory) / "peer", hosts)
    rows = [
        row("SSH, Ray installed: up to the head", ours[1], peer.get(1), "ray up", "s"),
        row("SSH, Ray installed: up to 3 nodes in Ray", ours[3], peer.get(3), "ray up", "s", ">= 2x"),
        row("SSH, Ray installed: up to 4 nodes in Ray", ours[4], peer.get(4), "ray up (never)", "s"),
    ]
    return [*rows, row("SSH: up with nothing to do", again, None, "ray up restarts Ray", "s", "<= 1 s")]


def _many() -> list[Row]:
    """Hosts with an agent only: how the time grows with their number, and what each of them is sent."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        running_engine() as engine,
        SshHosts(engine, Path(directory)) as made,
    ):
        hosts = made.start(max(COUNTS))
        first = 0.0
        for count in COUNTS:
            place = Path(directory) / str(count)
            place.mkdir()
            cluster = SshCluster(place, hosts[:count])
            (cluster.home / "cache").unlink()  # a first `up`, which makes the head's packages
            before = _received(hosts[count - 1])
            try:
                began = time.perf_counter()
                cluster.up(timeout=PEER_SECONDS)
                seconds = time.perf_counter() - began
                assert all(host["connected"] for host in cluster.api_hosts().values())
                first = first or seconds
                name = f"SSH: up of {count} hosts, all joined"
                rows.append(row(name, seconds, None, "", "s", f"<< {count * first:.0f} s (linear)" if rows else ""))
                if count == COUNTS[-1]:
                    sent = (_received(hosts[count - 1]) - before) / 1024
                    rows.append(row(f"SSH: sent to each of {count} hosts", sent, None, "", "KiB"))
                if count == 4:
                    ready = _ready_from_standby(cluster)
                    rows.append(row("SSH: parked host asked for to ready, median", ready, None, "", "s", "<= 0.3 s"))
                began = time.perf_counter()
                cluster.down()
                rows.append(row(f"SSH: down of {count} hosts", time.perf_counter() - began, None, "", "s"))
            finally:
                cluster.clean_up()
    return rows


def _received(host: SshHost) -> int:
    return int(host.run("cat", "/sys/class/net/eth0/statistics/rx_bytes"))


def _ready_from_standby(cluster: SshCluster) -> float:
    """From a job that needs a node to the node, by the head's events."""
    times: list[float] = []
    for number in range(1, 6):
        job = cluster.job(cluster.submit("--", "true"))
        cluster.wait_job(job["id"], "succeeded")
        node = cluster.job(job["id"])["attempts"][0]["nodes"][0]
        story = {entry["event"]: entry["at"] for entry in cluster.json("explain", node)["story"]}
        times.append(story["ready"] - job["submitted"])
        wait_until(lambda: len(cluster.status()["nodes"]) == 1, 60, f"node {number} is parked again")
    print("standby to ready:", *(f"{one:.3f}" for one in times), file=sys.stderr)
    return statistics.median(times)


def _ours(directory: Path, hosts: Sequence[SshHost]) -> tuple[dict[int, float], float]:
    """Seconds to so many nodes, and those of a second `up`."""
    directory.mkdir()
    cluster = SshCluster(directory, hosts)
    (cluster.home / "cache").unlink()  # as above
    head, *workers = [host.address for host in hosts]
    more = f"engine: {{ray: {{python: {sys.executable}}}}}\nhead: {{host: {head}}}"
    cluster.write(workers, low=3, more=more, pool="idle_timeout: 10m")

    def token() -> str:
        return hosts[0].run("sh", "-c", f"cat {ROOT}/head/engine.token 2>/dev/null; true").strip()

    try:
        with _counting(head, 4, token) as seconds:
            began = time.time()
            cluster.up(timeout=PEER_SECONDS)
            print(f"clusterctl up took {time.time() - began:.1f} s", file=sys.stderr)
            wait_until(lambda: 4 in seconds, 60, "four nodes in Ray")
        return {count: at - began for count, at in seconds.items()}, _second_up(cluster)
    finally:
        cluster.clean_up()


def _second_up(cluster: SshCluster) -> float:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        cluster.cli("up", str(cluster.spec), "-y")
        times.append(time.perf_counter() - began)
    print("up with nothing to do:", *(f"{one:.2f}" for one in times), file=sys.stderr)
    return statistics.median(times)


def _peer(directory: Path, hosts: Sequence[SshHost]) -> dict[int, float]:
    """`ray up` with its own commands, waited for until three nodes are there: the fourth never comes."""
    directory.mkdir()
    head, *workers = [host.address for host in hosts]
    spec = directory / "ray.yaml"
    spec.write_text(
        f"cluster_name: peer\nprovider: {{type: local, head_ip: {head}, worker_ips: [{', '.join(workers)}]}}\n"
        f"auth: {{ssh_user: {USER}, ssh_private_key: {hosts[0].key_path}}}\n"
        "min_workers: 3\nmax_workers: 3\nupscaling_speed: 10\nidle_timeout_minutes: 60\nsetup_commands: []\n"
        f"head_start_ray_commands: [{RAY} stop, '{RAY} start --head --port=6379 --disable-usage-stats "
        "--autoscaling-config=~/ray_bootstrap_config.yaml']\n"
        f"worker_start_ray_commands: [{RAY} stop, '{RAY} start --address=$RAY_HEAD_IP:6379']\n"
    )
    env = {**os.environ, "HOME": str(directory), "RAY_USAGE_STATS_ENABLED": "0"}
    env.pop("SSH_AUTH_SOCK", None)
    command = [RAY, "up", "-y", "--no-config-cache", str(spec)]
    with _counting(head, 3, lambda: "") as seconds:
        began = time.time()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PEER_SECONDS)
        print(f"ray up took {time.time() - began:.1f} s", file=sys.stderr)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        wait_until(lambda: 3 in seconds, PEER_SECONDS, "three nodes of ray up")
    return {count: at - began for count, at in seconds.items()}


@contextlib.contextmanager
def _counting(head: str, least: int, token: Callable[[], str]) -> Iterator[dict[int, float]]:
    """Count of nodes -> when Ray first had as many, filled while it runs. `token()` is "" until Ray's token is there."""
    seconds: dict[int, float] = {}
    ended = threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def count() -> None:
        env: dict[str, Any] = {**os.environ}
        if least > 3:
            while not (found := token()) and not ended.wait(0.1):
                pass
            env.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=found)
        command = [sys.executable, "-c", COUNT, f"{head}:6379"]
        processes.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
        assert processes[0].stdout is not None
        for line in processes[0].stdout:
            number, at = line.split()
            for reached in range(1, int(number) + 1):
                seconds.setdefault(reached, float(at))

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        for process in processes:
            process.kill()
        thread.join(10)
