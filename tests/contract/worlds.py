"""What the contract suite needs to know of a provider beyond the contract. A new provider registers its world in WORLDS."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterctl_providers import make_provider
from clusterctl_providers.base import (
    TAG_CLUSTER,
    TAG_GENERATION,
    TAG_NODE,
    TAG_TOKEN,
    TAG_UID,
    CreateRequest,
    PoolRequest,
    Provider,
    ProviderContext,
)

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError
from clusterctl.core.model import Instance, Offer, launch_token
from tests.support.cluster import wait_until

# name -> "module:class"; imported when its tests run, so that no provider needs another's libraries
WORLDS = {
    "aws": "tests.aws.world:AwsWorld",
    "azure": "tests.azure.world:AzureWorld",
    "gcp": "tests.gcp.world:GcpWorld",
    "local": "tests.contract.worlds:LocalWorld",
    "fake": "tests.contract.worlds:FakeWorld",
    "ssh": "tests.ssh.world:SshWorld",
    "fake-boots-agents": "tests.contract.worlds:BootingFakeWorld",
    "docker": "tests.docker.world:DockerWorld",
}

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


def make_world(name: str) -> World:
    module, _, cls = WORLDS[name].partition(":")
    return getattr(importlib.import_module(module), cls)()


class World:
    """One place where instances can be made: `provider(uid)` opens it for a cluster, and `close` leaves nothing there."""

    provider_name = ""
    many = 8  # instances for the test of a long list
    refusal: type[ProviderError] = ProviderError  # what `refusing` leads to

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cctl-contract-"))
        self.uid = str(uuid.uuid4())
        self.pool = PoolRequest("cpu", {"resources": {"CPU": 1}, "market": ["on-demand"], "orphan_timeout": 900.0})
        self._opened: list[Provider] = []
        self._uids: set[str] = set()

    # ---- to be said by each provider

    def settings(self) -> dict[str, Any]:
        return {}

    def given(self) -> dict[str, Any]:
        """What a head gives its provider beside the user's settings: fields of ProviderContext."""
        return {}

    def state_dir(self, uid: str) -> Path:
        """Where a cluster's scratch is; the suite opens two clusters in one world."""
        return self.directory / uid

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        """A provider that turns down `node_id` with `refusal`, and nothing else."""
        raise NotImplementedError

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        """A provider of which some scope cannot be listed."""
        raise NotImplementedError

    # ---- for the tests

    def provider(self, uid: str = "") -> Provider:
        uid = uid or self.uid
        self._uids.add(uid)
        return self.open(self.settings(), uid)

    def open(self, settings: dict[str, Any], uid: str = "", **given: Any) -> Provider:
        uid = uid or self.uid
        given = {**self.given(), **given}
        context = ProviderContext(f"c-{uid[:8]}", uid, str(self.state_dir(uid)), settings, **given)
        self._opened.append(make_provider(self.provider_name, context))
        return self._opened[-1]

    def offer(self, provider: Provider) -> Offer:
        return provider.offers(self.pool)[0]

    def request(self, provider: Provider, node_id: str, generation: int = 1, uid: str = "") -> CreateRequest:
        uid = uid or self.uid
        token = launch_token(uid, node_id, generation)
        tags = {
            TAG_CLUSTER: f"c-{uid[:8]}",
            TAG_UID: uid,
            TAG_NODE: node_id,
            TAG_GENERATION: str(generation),
            TAG_TOKEN: token,
        }
        bootstrap = {"node_id": node_id, "join_token": "once"}
        return CreateRequest(token, node_id, generation, self.offer(provider), tags, bootstrap, self.pool)

    def create(self, provider: Provider, *node_ids: str, uid: str = "") -> list[Instance]:
        results = provider.create([self.request(provider, node_id, uid=uid) for node_id in node_ids])
        assert all(isinstance(result, Instance) for result in results), results
        return [result for result in results if isinstance(result, Instance)]

    def living(self, provider: Provider) -> dict[str, Instance]:
        """Listed instances that have not ended, by id; the list must be complete."""
        scopes = provider.list()
        assert all(scope.complete for scope in scopes), scopes
        instances = itertools.chain.from_iterable(scope.instances for scope in scopes)
        return {i.id: i for i in instances if i.state not in ("stopping", "terminated")}

    def listed(self, provider: Provider, *ids: str) -> dict[str, Instance]:
        """Waits until the list shows exactly these as living."""
        wait_until(lambda: set(self.living(provider)) == set(ids), what=f"a list of exactly {sorted(ids)}")
        return self.living(provider)

    def none_left(self, provider: Provider) -> None:
        wait_until(lambda: not self.living(provider), what="an empty list")

    def close(self) -> None:
        for uid in self._uids:
            provider = self.provider(uid)
            provider.terminate(list(self.living(provider)))
            self.none_left(provider)
        for provider in self._opened:
            provider.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class LocalWorld(World):
    provider_name = "local"
    refusal = BadRequest

    def settings(self) -> dict[str, Any]:
        return {"short_dir": str(self.directory)}

    def given(self) -> dict[str, Any]:
        return {"agent_argv": SLEEPER}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        yield self.open(self.settings(), agent_argv=(), agent_bundle="/nowhere/agent.pyz")

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        nodes = self.state_dir(self.uid) / "nodes"
        hidden = nodes.with_name("hidden")
        nodes.rename(hidden)
        nodes.write_text("not a directory")
        try:
            yield self.provider()
        finally:
            nodes.unlink()
            hidden.rename(nodes)


class FakeWorld(World):
    provider_name = "fake"
    many = 120  # three pages
    refusal = NoCapacity

    def settings(self) -> dict[str, Any]:
        return {
            "types": {"small": {"CPU": 1, "price": 0.1}},
            "zones": ["za", "zb"],
            "boot_seconds": 0,
            "directory": str(self.directory / "cloud"),
        }

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        yield self.open({**self.settings(), "faults": [{"kind": "no_capacity"}]})

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        yield self.open({**self.settings(), "faults": [{"kind": "partial_list", "scope": "za"}]})


class BootingFakeWorld(FakeWorld):
    many = 8

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "boot": "local"}

    def given(self) -> dict[str, Any]:
        return {"agent_argv": SLEEPER}
