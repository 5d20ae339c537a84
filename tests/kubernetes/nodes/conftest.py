from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kubernetes.nodes.world import KubernetesWorld, as_user
from tests.support.kubernetes.api import Object
from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.pods import CannotStart, Kubelet


@dataclass
class Spot:
    """A namespace of one's own, and who may do everything there."""

    plane: ControlPlane
    namespace: str
    kubeconfig: Path
    kubelet: Kubelet

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """With room for whatever a test makes."""
    for number in (1, 2):
        control_plane.add_node(f"room-{number}", cpu="500", memory="2000Gi")
    yield control_plane


def start(pod: Object) -> None:
    """Runs nothing, and cannot pull what is nowhere."""
    image = pod["spec"]["containers"][0]["image"]
    if "nowhere" in image:
        raise CannotStart("ErrImagePull", f"manifest for {image} not found")


@pytest.fixture
def spot(nodes: ControlPlane) -> Iterator[Spot]:
    namespace = nodes.namespace()
    kubeconfig = nodes.kubeconfig(namespace)
    with as_user(kubeconfig), Kubelet(nodes, namespace, start) as kubelet:
        yield Spot(nodes, namespace, kubeconfig, kubelet)


@pytest.fixture
def world(spot: Spot) -> Iterator[KubernetesWorld]:
    place = KubernetesWorld()
    yield place
    place.close()
