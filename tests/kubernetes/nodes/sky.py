"""The sky of the crash suite over Kubernetes: pods that a simulated kubelet runs, and calls to the API server to die at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from clusterctl_providers.base import TAG_UID, ProviderContext
from clusterctl_providers.kubernetes.provider import KubernetesProvider

from tests.crash.stage import UID, Fuse, MiniHead
from tests.crash.story import RealSky
from tests.kubernetes.nodes.world import HERE
from tests.support.cluster import wait_until
from tests.support.kubernetes.api import Api


class KubernetesSky(RealSky):
    spec: ClassVar[Mapping[str, Any]] = {"resources": {"CPU": 1, "memory": 64 * 2**20}}

    def __init__(self, directory: Path, api: Api, namespace: str) -> None:
        super().__init__(directory)
        self._api, self._namespace = api, namespace
        self._bundle = directory / "agent.pyz"
        self._bundle.write_bytes(b"an agent")

    def provider(self) -> KubernetesProvider:
        state, settings = str(self.directory / "state"), dict(HERE)
        return KubernetesProvider(ProviderContext("demo", UID, state, settings, agent_bundle=str(self._bundle)))

    def remains(self) -> list[str]:
        """What Kubernetes itself collects goes a moment later."""
        wait_until(lambda: not self._left(), what="nothing of the cluster in its namespace")
        return self._left()

    def _left(self) -> list[str]:
        path, wanted = f"/api/v1/namespaces/{self._namespace}", f"{TAG_UID}={UID}"
        plurals = ("pods", "secrets", "configmaps")
        return [
            f"{plural}/{thing['metadata']['name']}"
            for plural in plurals
            for thing in self._api.get(f"{path}/{plural}", labelSelector=wanted)["items"]
        ]

    def arm(self, head: MiniHead, fuse: Fuse) -> None:
        provider = head.provider.inner
        assert isinstance(provider, KubernetesProvider)
        client = provider._client
        call = client.call

        def around(method: str, path: str, what: str, *args: Any, **more: Any) -> Any:
            if method != "GET":
                fuse.at(f"before {method}", what.partition(" clusterctl-")[0])  # without whose it is
            return call(method, path, what, *args, **more)

        client.call = around  # type: ignore[method-assign]
