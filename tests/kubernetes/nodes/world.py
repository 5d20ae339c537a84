"""The Kubernetes provider for the contract suite: a namespace of the real control plane, that of KUBECONFIG."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterctl_providers.base import Provider

from clusterctl.core.errors import BadRequest
from tests.contract.worlds import World

SLEEPER = ["python3", "-S", "-c", "import time; time.sleep(600)"]
IMAGE = "registry.test/python:3.12"
HERE = {"image": IMAGE, "head_address": "10.0.0.5"}  # settings of a cluster whose head is on this machine


@contextlib.contextmanager
def as_user(kubeconfig: Path) -> Iterator[None]:
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        yield
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before


class KubernetesWorld(World):
    provider_name = "kubernetes"
    refusal = BadRequest
    many = 100

    def settings(self) -> dict[str, Any]:
        return dict(HERE)

    def given(self) -> dict[str, Any]:
        return {"agent_argv": SLEEPER}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        yield self.open({**self.settings(), "pod": {"spec": {"restartPolicy": "Sometimes"}}})

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        """Its API server does not answer."""
        text = Path(os.environ["KUBECONFIG"]).read_text()
        elsewhere = self.directory / "elsewhere"
        elsewhere.write_text("\n".join(_to_nowhere(line) for line in text.splitlines()))
        with as_user(elsewhere):
            yield self.open(self.settings())


def _to_nowhere(line: str) -> str:
    return f"{line.partition('server:')[0]}server: https://127.0.0.1:1" if "server:" in line else line
