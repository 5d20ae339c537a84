"""Ray over real network interfaces: the head on one host, raylets on others, with the Ray that is installed there or by us."""

from __future__ import annotations

import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Hosts, Reached
from clusterctl.provision.ssh.inventory import Login, Machine
from tests.ssh.cluster import SshCluster, traces
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine
from tests.support.ssh_hosts import SshHost, SshHosts
from tests.support.wheel_index import kept_wheels, serving, wanted

DRIVER = """
import ray, socket
ray.init()
@ray.remote(num_cpus=1)
class Here:
    def where(self): return socket.gethostname()
both = [Here.remote(), Here.remote()]  # at the same time: each host has one CPU
print(sorted(ray.get([one.where.remote() for one in both])))
"""


@pytest.fixture(scope="module")
def ray_hosts(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    """Hosts that see this environment and its interpreter under the same paths, as machines with Ray pre-installed do."""
    places = {str(Path(sys.prefix)), str(Path(sys.base_prefix))}
    volumes = {place: {"bind": place, "mode": "ro"} for place in places}
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        hosts = made.start(3, volumes=volumes, shm_size="512m")
        for host in hosts:
            for place in places:
                for parent in Path(place).parents[:-1]:
                    host.run("chmod", "a+x", str(parent))
        yield hosts


def test_tasks_run_on_every_host_and_nothing_is_left(ray_hosts: list[SshHost], tmp_path: Path) -> None:
    cluster = SshCluster(tmp_path, ray_hosts)
    head, *workers = [host.address for host in ray_hosts]
    more = f"engine: {{ray: {{python: {sys.executable}}}}}\nhead: {{host: {head}}}"
    cluster.write(workers, low=1, more=more, pool="idle_timeout: 10m")
    try:
        cluster.up()
        assert cluster.status()["engine"]["state"] == "ready"
        (cluster.directory / "driver.py").write_text(DRIVER)
        said = cluster.cli("submit", "driver.py").stdout
        assert "host2" in said or "host3" in said
        figures_come_by_ssh(cluster)
        cluster.down()
        assert [traces(host) for host in ray_hosts] == [[], [], []]
        left = ray_hosts[0].run("sh", "-c", "ps -eo user,args | grep ^tester | grep -v grep; true")
        assert left == ""
    finally:
        cluster.clean_up()


def figures_come_by_ssh(cluster: SshCluster) -> None:
    """The head's and those of Ray on every node, also when the tunnel has to be dug anew."""
    process = cluster.start("monitoring", "up", "--no-prometheus")
    try:
        assert process.stdout is not None
        base = f"http://{process.stdout.readline().strip()}"
        token = (cluster.home / "monitoring" / "demo" / "token").read_text().strip()

        def ask(path: str) -> str:
            request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()

        def of_ray(path: str) -> str:
            try:
                return ask(path)
            except urllib.error.HTTPError as error:  # its exporter starts after the rest of Ray
                assert error.code == 502
                return ""

        paths = [one["labels"]["__metrics_path__"] for one in json.loads(ask("/ray"))]
        assert len(paths) >= 2
        for path in paths:
            assert "ray_node_cpu_count" in wait_until(lambda path=path: of_ray(path), what=f"Ray's figures at {path}")
        assert "clusterctl_nodes{" in ask("/metrics")
        cluster.stop_tunnel()
        assert "clusterctl_nodes{" in ask("/metrics")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_hosts_without_ray_are_named_before_anything_starts(ray_hosts: list[SshHost], tmp_path: Path) -> None:
    cluster = SshCluster(tmp_path, ray_hosts)
    cluster.write(more="engine: {ray: {python: /usr/bin/python3}}")
    try:
        said = cluster.cli("up", str(cluster.spec), "-y", code=1).stderr
        assert "has no Ray there" in said and "engine: none" in said
        assert [traces(host) for host in ray_hosts] == [[], [], []]
    finally:
        cluster.clean_up()


@pytest.mark.timeout(600)  # three machines install Ray, and start it, on the cores of one
def test_hosts_without_ray_and_without_a_network_get_it_from_one_download(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    """Their package index does not answer, so that the client brings the wheels, and the head gives them to the others."""
    want = wanted(python="3.11")  # what the hosts have
    house, wheels = kept_wheels(want)
    with serving(house, wheels) as index, SshHosts(docker_engine, tmp_path) as made:
        hosts = made.start(3, shm_size="512m")
        for host in hosts:
            host.write("/etc/pip.conf", b"[global]\nindex-url = http://127.0.0.1:9/simple\n")
        cluster = SshCluster(tmp_path, hosts)
        cluster.env["UV_DEFAULT_INDEX"] = index.url
        head, *workers = [host.address for host in hosts]
        more = f"engine: {{ray: {{version: {want.ray}}}}}\nhead: {{host: {head}}}"
        cluster.write(workers, low=2, more=more, pool="idle_timeout: 10m")
        try:
            said = cluster.cli("up", str(cluster.spec), "-y").stderr
            assert "sending Ray 2.60.0 to the head" in said
            assert sorted(index.downloads) == sorted(wheel.file for wheel in wheels), "each of them once"
            (cluster.directory / "driver.py").write_text(DRIVER)
            assert "['host2', 'host3']" in cluster.cli("submit", "driver.py").stdout
            cluster.down()
            assert [traces(host) for host in hosts] == [[], [], []]
        finally:
            cluster.clean_up()


def test_another_minor_version_of_python_is_named_before_anything_starts(tmp_path: Path) -> None:
    machine = Machine("10.0.0.6", Login("10.0.0.6"), ("cpu",), False, {}, {})
    hosts = Hosts("demo", "c0ffee", [machine], tmp_path, lambda text: None, engine=True)
    with pytest.raises(HostTrouble, match=r"it has Python 3\.12\.1, the head 3\.11\.2, .*same minor version") as caught:
        hosts.judge_engine(Reached(machine, facts={"python": "3.12.1"}), {"python": "3.11.2"})
    assert caught.value.code == "engine_mismatch"
    hosts.judge_engine(Reached(machine, facts={"python": "3.11.9"}), {"python": "3.11.2"})
