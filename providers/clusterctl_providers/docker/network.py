"""The cluster's network, and where on it the head listens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.lock import Lock, wait_for
from docker.errors import APIError, NotFound

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.base import TAG_CLUSTER, TAG_MAKER, TAG_UID, ProviderContext
from clusterctl_providers.docker.client import TROUBLE, Engine, translated
from clusterctl_providers.this_machine import maker


@dataclass(frozen=True)
class Network:
    """`gateway` is the address of the engine's machine on it."""

    id: str
    name: str
    gateway: str


def network_name(context: ProviderContext) -> str:
    """Unique by its part of the uid: clusters of several people may have one name."""
    return f"clusterctl-{context.cluster}-{context.uid[:8]}"


def ensure_network(engine: Engine, context: ProviderContext) -> Network:
    """The network that the spec names, else the cluster's own, made unless it is there."""
    named = str(context.settings.get("network") or "")
    try:
        if named:
            return _network(engine.api.inspect_network(named))
        with _locked(Path(context.state_dir)):
            found = _own(engine, context.uid)
            made = found[0]["Id"] if found else _make(engine, context)
        return _network(engine.api.inspect_network(made))
    except TROUBLE as error:
        if not (named and isinstance(error, NotFound)):
            raise translated(error, f"making the network of cluster {context.cluster}") from error
        raise BadRequest(
            f"there is no Docker network {named!r}: make it (docker network create {named}), or leave "
            "provider.docker.network out and the cluster makes its own"
        ) from error


def remove_network(engine: Engine, context: ProviderContext) -> None:
    """Removes the cluster's own network; one that is not there is success. A network of the user's stays."""
    try:
        for network in _own(engine, context.uid):
            with contextlib.suppress(NotFound):
                engine.api.remove_network(network["Id"])
    except TROUBLE as error:
        raise translated(error, f"removing the network of cluster {context.cluster}") from error


def agent_endpoint(engine: Engine, network: Network, setting: str) -> tuple[str, str]:
    """(address to listen on here, address that containers dial). The network's gateway is an address of this machine that
    only this machine and its containers reach; Docker Desktop leads its own name to the loopback instead."""
    if setting:
        return setting, setting
    if network.gateway and is_ours(network.gateway):
        return network.gateway, network.gateway
    if engine.is_desktop:
        return "127.0.0.1", "host.docker.internal"
    raise ProviderError(
        f"containers of the Docker engine at {engine.host} cannot reach this machine by their gateway {network.gateway}, "
        "since that address is not here (the engine is remote or rootless): set provider.docker.head_address to an "
        "address of this machine that they reach"
    )


def is_ours(address: str) -> bool:
    """Whether this machine can listen there."""
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _own(engine: Engine, uid: str) -> list[Mapping[str, Any]]:
    found = engine.api.networks(filters={"label": f"{TAG_UID}={uid}"})
    return sorted(found, key=lambda network: (network["Created"], network["Id"]))


def _make(engine: Engine, context: ProviderContext) -> str:
    labels = {TAG_CLUSTER: context.cluster, TAG_UID: context.uid, TAG_MAKER: maker()}
    try:
        return engine.api.create_network(network_name(context), driver="bridge", labels=labels, check_duplicate=True)[
            "Id"
        ]
    except APIError as error:
        if error.status_code == 409 and (found := _own(engine, context.uid)):
            return found[0]["Id"]
        raise


def _network(data: Mapping[str, Any]) -> Network:
    pools = (data.get("IPAM") or {}).get("Config") or []
    gateway = next((str(pool["Gateway"]) for pool in pools if pool.get("Gateway")), "")
    return Network(data["Id"], data["Name"], gateway.partition("/")[0])


def _locked(state: Path) -> Lock:
    """Docker lets two networks have one name: one process at a time makes ours."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return wait_for(state / "network.lock")
