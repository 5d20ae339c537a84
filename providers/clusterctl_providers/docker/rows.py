"""What a container of the engine's is to us: the row of a list, or the answer of an inspection, as an Instance."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from clusterctl.core.model import Instance, labels_of
from clusterctl_providers.base import TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID

SCOPE = "docker"

InstanceState = Literal["pending", "running", "stopping", "stopped", "terminated"]
_STATES: dict[str, InstanceState] = {
    "created": "pending", "running": "running", "paused": "running", "restarting": "running",
    "removing": "stopping", "exited": "terminated", "dead": "terminated",
}  # fmt: skip


def name_of(container: Mapping[str, Any]) -> str:
    """Of a row of the engine's list."""
    return str(container["Names"][0]).lstrip("/")


def is_over(container: Mapping[str, Any]) -> bool:
    """Whether what a row of the list shows has ended."""
    return _STATES.get(container["State"]) == "terminated"


def listed(container: Mapping[str, Any], ending: Collection[str]) -> Instance:
    """A row of the engine's list. `ending`: the names of those that this process is ending right now."""
    networks = ((container.get("NetworkSettings") or {}).get("Networks") or {}).values()
    state = _STATES.get(container["State"], "pending")
    name = name_of(container)
    return described(
        name,
        container["Labels"],
        "stopping" if name in ending and state != "terminated" else state,
        _address(networks),
        float(container["Created"]),
        str(container.get("Status", "")) if state == "terminated" else "",
    )


def inspected(container: Mapping[str, Any]) -> Instance:
    """The answer of an inspection."""
    status = container["State"]
    state = _STATES.get(status["Status"], "pending")
    return described(
        str(container["Name"]).lstrip("/"),
        container["Config"]["Labels"],
        state,
        _address(container["NetworkSettings"]["Networks"].values()),
        datetime.datetime.fromisoformat(container["Created"][:19] + "+00:00").timestamp(),
        _ended(container) if state == "terminated" else "",
    )


def _ended(container: Mapping[str, Any]) -> str:
    """How it ended. The engine says of a container that it was killed for memory when any of its processes was."""
    status = container["State"]
    text = f"(exit code {status['ExitCode']}) {status['Error']}".strip()
    limit = int((container.get("HostConfig") or {}).get("Memory") or 0)
    if not status.get("OOMKilled"):
        return text
    size = f" of {limit / 2**20:.4g} MiB" if limit else ""
    return f"{text} after the kernel had killed processes in it for memory: its limit{size} was reached"


def described(
    name: str, labels: Mapping[str, str], state: InstanceState, address: str, created: float, detail: str
) -> Instance:
    """Node and generation are what our labels say; of no node where they are missing. `created` in unix seconds."""
    generation = labels.get(TAG_GENERATION, "")
    return Instance(
        id=name,
        uid=labels.get(TAG_UID, ""),
        node_id=labels.get(TAG_NODE, ""),
        generation=int(generation) if generation.isdecimal() else 0,
        state=state,
        address=address,
        zone=SCOPE,
        instance_type="container",
        created=created,
        token=labels.get(TAG_TOKEN, ""),
        detail=detail,
        tags=labels_of(dict(labels)),
    )


def _address(networks: Iterable[Mapping[str, Any]]) -> str:
    return next(filter(None, (str(network.get("IPAddress") or "") for network in networks)), "")
