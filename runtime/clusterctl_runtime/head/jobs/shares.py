"""What the dispatcher asks of whoever has lent a node's share: the engine, or nobody."""

from __future__ import annotations

from typing import Protocol

from clusterctl.core.errors import ClusterctlError
from clusterctl_runtime.head.nodes.ledger import Holding, NodeLedger


class ShareRefused(ClusterctlError):
    """A share of a node was not given back; the message says of what node, and why."""


class Shares(Protocol):
    """Taking a share of a node back from its engine before a job starts there, and giving it back afterwards."""

    def asks(self, books: NodeLedger) -> bool:
        """Whether somebody must be asked before a share of that node may be used."""
        ...

    async def take(self, books: NodeLedger, holding: Holding) -> None:
        """For a holding that is in the books. Raises ShareRefused; the caller then takes it out of them, and settles."""
        ...

    def settle(self, node_id: str) -> None:
        """What nobody holds any more goes back."""
        ...


class NoShares:
    def asks(self, books: NodeLedger) -> bool:
        return False

    async def take(self, books: NodeLedger, holding: Holding) -> None:
        return

    def settle(self, node_id: str) -> None:
        return
