"""The kubelet of the tests' nodes treats pods as a real one does."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.parts import pod
from tests.support.cluster import wait_until
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.pods import CannotStart, Kubelet, Process

# Says where it is: a signal that comes before the program minds it would end it.
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"


class World:
    """Pods of one namespace, and a kubelet that starts a process for those that have a command."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.namespace = plane, plane.namespace()
        self._numbers = itertools.count(1)
        self.pods = f"/api/v1/namespaces/{self.namespace}/pods"
        plane.add_node(f"{self.namespace}-node", cpu="8")

    def add(self, name: str, command: list[str] | None = None, **more: Any) -> str:
        """Its whole name: a test that is run again finds the pods of its first try."""
        name = f"{name}-{next(self._numbers)}"
        made = pod(name, **{"restartPolicy": "Never", "nodeName": f"{self.namespace}-node", **more})
        if command:
            made["spec"]["containers"][0]["command"] = command
        self.plane.api.create(self.pods, made)
        return name

    def start(self, pod: dict[str, Any]) -> Process | None:
        command = pod["spec"]["containers"][0].get("command")
        if command == ["missing"]:
            raise CannotStart("ErrImagePull", "no such image")
        if not command:
            return None
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def status(self, name: str) -> dict[str, Any]:
        return self.plane.api.get(f"{self.pods}/{name}")["status"]

    def wait_for(self, name: str, phase: str) -> None:
        wait_until(lambda: self.status(name)["phase"] == phase, what=f"{name} is {phase}")

    def is_gone(self, name: str) -> bool:
        try:
            self.status(name)
        except ApiError as error:
            return error.code == 404
        return False


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane) -> Iterator[World]:
    world = World(control_plane)
    with Kubelet(control_plane, world.namespace, world.start):
        yield world
    control_plane.remove_node(f"{world.namespace}-node")


def test_a_process_that_ends_leaves_its_pod_succeeded_or_failed(world: World) -> None:
    good, bad = world.add("good", ["true"]), world.add("bad", ["sh", "-c", "exit 7"])
    world.wait_for(good, "Succeeded")
    world.wait_for(bad, "Failed")
    assert world.status(bad)["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


def test_a_pod_that_is_deleted_is_asked_first_and_killed_after_its_grace(world: World) -> None:
    stubborn, idle = world.add("stubborn", [sys.executable, "-c", STUBBORN]), world.add("idle")
    for name in (stubborn, idle):
        world.wait_for(name, "Running")
    world.plane.api.delete(f"{world.pods}/{idle}")
    world.plane.api.delete(f"{world.pods}/{stubborn}", gracePeriodSeconds=1)
    assert not world.is_gone(stubborn)
    for name in (stubborn, idle):
        wait_until(lambda name=name: world.is_gone(name), what=f"{name} is gone")


def test_a_container_that_cannot_start_says_why(world: World) -> None:
    name = world.add("missing", ["missing"])

    def states() -> Any:
        return world.status(name).get("containerStatuses")

    assert wait_until(states)[0]["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    world.plane.api.delete(f"{world.pods}/{name}")
    wait_until(lambda: world.is_gone(name), what="the pod is gone")


def test_a_pod_that_is_evicted_fails_and_stays_and_one_that_ends_is_restarted(control_plane: ControlPlane) -> None:
    world = World(control_plane)
    with Kubelet(control_plane, world.namespace) as kubelet:
        evicted, restarted = world.add("evicted"), world.add("restarted", restartPolicy="Always")
        for name in (evicted, restarted):
            world.wait_for(name, "Running")
        kubelet.evict(evicted, "The node was low on resource: memory.")
        kubelet.end(restarted, 3)
        world.wait_for(evicted, "Failed")
        assert world.status(evicted)["reason"] == "Evicted"
        wait_until(lambda: world.status(restarted)["containerStatuses"][0]["restartCount"] == 1, what="it is restarted")
    control_plane.remove_node(f"{world.namespace}-node")
