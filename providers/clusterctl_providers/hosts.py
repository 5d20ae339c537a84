"""Hosts of an inventory as provider ssh sees them, and who can speak to them: the head, which has their connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

ClaimState = Literal["pending", "running", "stopping", "terminated", "unknown"]


@dataclass(frozen=True)
class ClaimView:
    """A claim as the head knows it. "unknown": its host is silent, and its lease has not run out. Times: unix seconds."""

    instance: str
    token: str
    node_id: str
    generation: int
    role: str
    state: ClaimState
    created: float
    instance_type: str = ""
    zone: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    ended: float = 0.0


@dataclass(frozen=True)
class HostView:
    """One host of the inventory. `why` says what is the matter where it is not connected; `facts` as in `hello`."""

    id: str
    address: str
    pools: tuple[str, ...]
    head: bool
    connected: bool
    why: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    facts: Mapping[str, Any]
    claims: tuple[ClaimView, ...]

    def is_free(self, role: str) -> bool:
        """Connected, and without a node of that role: one host may hold a head and a worker."""
        held = (claim for claim in self.claims if claim.state != "terminated")
        return self.connected and all(claim.role != role for claim in held)

    def serves(self, role: str, pool: str) -> bool:
        """The name of the pool says nothing for a head."""
        return self.head if role == "head" else pool in self.pools


class HostBooks(Protocol):
    """Who can speak to the hosts. Thread-safe."""

    def exclusive(self) -> AbstractContextManager[None]: ...
    def hosts(self) -> Sequence[HostView]: ...
    def find(self, token: str) -> tuple[HostView, ClaimView] | None: ...
    def claim(self, host_id: str, claim: Mapping[str, Any]) -> None: ...
    def send(self) -> None: ...
    def release(self, instances: Collection[str]) -> None: ...
    def ended(self, token: str) -> bool: ...
    def refusal(self, token: str) -> str: ...
    def console(self, instance: str) -> str: ...
    def wait(self, condition: Callable[[], bool], seconds: float) -> bool: ...
