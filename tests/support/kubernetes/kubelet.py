"""One node that is real: Kubernetes' kubelet and a Docker engine of its own, on a machine of its own (network.py), and a control
plane for it. Pods run, with addresses, volumes, limits and signals.

    with RealCluster(tmp_path / "cluster") as cluster:
        image = cluster.image()
        cluster.plane.api.create(...)
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine, base_image, client_of
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.network import Machine
from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.programs import programs
from tests.support.kubernetes.running import Running

PAUSE = "clusterctl-test/pause:1"  # the process that holds a pod's network
# Where root may not make a process less likely to be killed for want of memory, as in a container, nothing would start: each
# pod's first process asks for that.
RUNTIME = """\
#!/bin/sh
for word; do
    if [ "$last" = --bundle ]; then sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$word/config.json"; fi
    last=$word
done
exec runc "$@"
"""
LISTENS = 10250


class RealCluster:
    """In `directory`, which it makes. `name`: of its node. Raises Unavailable (programs.py)."""

    def __init__(self, directory: Path, name: str = "real") -> None:
        directory.mkdir(mode=0o700)
        self.directory, self.name = directory, name
        self._running = Running(directory)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RealCluster:
        with contextlib.ExitStack() as stack:
            stack.callback(self._running.stop)
            self.machine = Machine(self._running)
            self.docker = self._start_docker()
            stack.callback(self._remove_containers)
            self.plane = stack.enter_context(ControlPlane(self.directory / "plane", self.machine.outside))
            self._start_kubelet()
            wait_until(self._is_ready, what="the node is ready")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def image(self) -> str:
        """Debian with Python, as the tests of Docker have it."""
        return base_image(DockerEngine(self._host, self.docker))

    def log(self) -> str:
        return self._running.log("kubelet")

    # ------------------------------------------------------------ its parts

    @property
    def _host(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    def _start_docker(self) -> docker.DockerClient:
        program = shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
        if program is None:
            pytest.fail("these tests need a Docker engine, and there is no dockerd: apt-get install docker.io")
        runtime = self.directory / "runtime"
        runtime.write_text(RUNTIME)
        runtime.chmod(0o755)
        self._start(
            program,
            {
                "data-root": str(self.directory / "docker"),
                "exec-root": str(self.directory / "exec"),
                "pidfile": str(self.directory / "docker.pid"),
                "host": self._host,
                "bip": f"{self.machine.gateway}/24",
                "add-runtime": f"here={runtime}",
                "default-runtime": "here",
            },
        )
        client = wait_until(self._connected, what="dockerd answers")
        assert client is not None
        with io.BytesIO() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(programs() / "pause", "pause")
            repository, _, tag = PAUSE.partition(":")
            client.api.import_image_from_data(
                packed.getvalue(), repository=repository, tag=tag, changes=['ENTRYPOINT ["/pause"]']
            )
        return client

    def _connected(self) -> docker.DockerClient | None:
        self._running.all_run()
        try:
            return client_of(self._host)
        except DockerException:
            return None

    def _start_kubelet(self) -> None:
        identities = self.plane.identities
        user = identities.issue(f"node-{self.name}", user=f"system:node:{self.name}", group="system:nodes")
        certificate, key = identities.issue(f"kubelet-{self.name}", self.machine.address)
        config = self.directory / "kubelet.json"
        config.write_text(json.dumps(_configuration(self.machine.address, identities.authority, certificate, key)))
        self._start(
            str(self.plane.programs / "kubelet"),
            {
                "config": str(config),
                "kubeconfig": str(identities.kubeconfig(f"node-{self.name}", self.plane.url, user)),
                "hostname-override": self.name,
                "node-ip": self.machine.address,
                "root-dir": str(self.directory / "kubelet"),
                "cert-dir": str(self.directory / "kubelet"),
                "volume-plugin-dir": str(self.directory / "plugins"),
                "container-runtime": "docker",
                "docker-endpoint": self._host,
                "network-plugin": "",
                "pod-infra-container-image": PAUSE,
            },
        )

    def _start(self, program: str, options: Mapping[str, str]) -> None:
        argv = [program, *(f"--{key}={value}" for key, value in options.items())]
        self._running.start(Path(program).name, argv, before=self.machine.inside)

    # ------------------------------------------------------------ looking and ending

    def _is_ready(self) -> bool:
        self._running.all_run()
        try:
            node = self.plane.api.get(f"/api/v1/nodes/{self.name}")
        except ApiError:
            return False
        ready = [each for each in node["status"].get("conditions", []) if each["type"] == "Ready"]
        return bool(ready) and ready[0]["status"] == "True" and not node["spec"].get("taints")

    def _remove_containers(self) -> None:
        """Their cgroups would stay."""
        self._running.stop("kubelet")
        for container in self.docker.containers.list(all=True, ignore_removed=True):
            with contextlib.suppress(DockerException):
                container.remove(force=True, v=True)
        self.docker.close()


def _configuration(address: str, authority: Path, certificate: Path, key: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": LISTENS,
        "healthzPort": 0,
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "failSwapOn": False,
        "nodeStatusUpdateFrequency": "1s",
        "serializeImagePulls": False,
        # Nothing is thrown away because this machine's disk is full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
    }
