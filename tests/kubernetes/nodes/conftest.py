from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kubernetes.nodes.kubelet import Kubelet
from tests.kubernetes.nodes.world import KubernetesWorld, as_user
from tests.support.kubernetes.plane import ControlPlane


@dataclass
class Spot:
    """A namespace of one's own, and who may do everything there."""

    plane: ControlPlane
    namespace: str
    kubeconfig: Path

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """With a kubelet, and room for whatever a test makes."""
    for number in (1, 2):
        control_plane.add_node(f"room-{number}", cpu="500", memory="2000Gi")
    kubelet = Kubelet(control_plane)
    yield control_plane
    kubelet.stop()


@pytest.fixture
def spot(nodes: ControlPlane) -> Iterator[Spot]:
    namespace = nodes.namespace()
    kubeconfig = nodes.kubeconfig(namespace)
    with as_user(kubeconfig):
        yield Spot(nodes, namespace, kubeconfig)


@pytest.fixture
def world(spot: Spot) -> Iterator[KubernetesWorld]:
    place = KubernetesWorld()
    yield place
    place.close()
