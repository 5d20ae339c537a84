"""A cluster of pods whose head is one of them, driven through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kubernetes.head.boxes import Boxes
from tests.support.cluster import LocalCluster, with_packages
from tests.support.kubernetes.api import Object

PLURALS = (
    "api/v1:pods", "api/v1:secrets", "api/v1:configmaps", "api/v1:services", "api/v1:serviceaccounts",
    "api/v1:persistentvolumeclaims", "apis/apps/v1:statefulsets", "apis/rbac.authorization.k8s.io/v1:roles",
    "apis/rbac.authorization.k8s.io/v1:rolebindings",
)  # fmt: skip
SPEC = """\
cluster: {name}
provider:
  kubernetes: {{image: registry.test/python, namespace: {namespace}}}
head: {{resources: {{CPU: 1, memory: 1GiB}}, node_selector: {{boxes: {namespace}}}}}
engine: none
pools:
  - name: work
    min: 1
    max: 3
    idle_timeout: 1h
    node_selector: {{boxes: {namespace}}}
    resources: {{CPU: 1, memory: 1GiB}}
"""


class PodCluster(LocalCluster):
    def __init__(self, directory: Path, boxes: Boxes, name: str = "demo") -> None:
        super().__init__(directory, SPEC.format(name=name, namespace=boxes.namespace), name)
        with_packages(self.home)
        self.boxes = boxes
        self.env["KUBECONFIG"] = str(boxes.plane.kubeconfig(boxes.namespace))

    def objects(self) -> list[str]:
        """All that bears our label in the namespace, as "pods/NAME"."""
        found: list[str] = []
        for kind in PLURALS:
            root, _, plural = kind.partition(":")
            listed = self.boxes.plane.api.get(
                f"/{root}/namespaces/{self.boxes.namespace}/{plural}",
                labelSelector="app.kubernetes.io/managed-by=clusterctl",
            )
            found += [f"{plural}/{one['metadata']['name']}" for one in listed["items"]]
        return found

    def pods(self) -> list[Object]:
        return self.boxes.plane.api.get(f"/api/v1/namespaces/{self.boxes.namespace}/pods")["items"]

    def nodes(self) -> dict[str, Any]:
        return {node["id"]: node for node in self.status()["nodes"]}
