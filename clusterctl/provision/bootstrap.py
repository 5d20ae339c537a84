"""What a new node is given to join its cluster with: whose authority it may believe, and a token that works once.

Whoever launches nodes makes these: the head, and the client for those that boot while the head itself boots. Both derive
them from one secret, so that the same node gets the same document from either, and again after a crash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusterctl_providers.base import PoolRequest
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import Bootstrap

from clusterctl.core.model import Node

JOIN_SECRET = "join.secret"  # noqa: S105  the name of its file
ORPHAN_SECONDS = 900.0


class JoinSecrets:
    """Derived from a secret in the head's directory, which is minted where there is none."""

    def __init__(self, directory: Path) -> None:
        path = directory / JOIN_SECRET
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        self._secret = bytes.fromhex(path.read_text().strip())

    def join_token(self, node_id: str, generation: int) -> str:
        """What the node shows first, once."""
        return self._derive("join", node_id, generation)

    def credential(self, node_id: str, generation: int) -> str:
        """What it is exchanged for."""
        return self._derive("credential", node_id, generation)

    def service_token(self, name: str, number: int) -> str:
        """What lets callers of a service in; another number is another token."""
        return "svc-" + self._derive("service", name, number)[:40]

    def _derive(self, purpose: str, node_id: str, generation: int) -> str:
        message = f"{purpose}/{node_id}/{generation}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def bootstrap_document(
    cluster: str, uid: str, node: Node, pool: PoolRequest, *, heads: Sequence[str], ca_pem: str, token: str, bundle: str
) -> dict[str, Any]:
    """The same for the same node, whoever makes it. `token` is its join token, `bundle` the digest of the agent."""
    return Bootstrap(
        cluster=cluster,
        uid=uid,
        node_id=node.id,
        generation=node.generation,
        heads=list(heads),
        ca_pem=ca_pem,
        join_token=token,
        pool=node.pool,
        role=node.role,
        bundle_digest=bundle,
        orphan_timeout=float(pool.spec.get("orphan_timeout") or ORPHAN_SECONDS),
        resources=node.offer.resources.to_dict(),
    ).to_json()
