"""Who may join: one-time join tokens bound to node and generation, exchanged for a credential.

Both are derived from a secret that never leaves the head, so that a lost answer can be repeated and a crash forgets nothing.
What is stored is only which boot used the join token: a second boot that shows the same token is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from clusterctl.provision.bootstrap import JoinSecrets
from clusterctl_runtime.head.storage.store import Store


@dataclass(frozen=True)
class Verdict:
    """`credential` is set on a first join. `final`: the node should not try again."""

    ok: bool
    credential: str = ""
    code: str = ""
    reason: str = ""
    final: bool = False


class Admission:
    def __init__(self, directory: Path, store: Store) -> None:
        self._secrets = JoinSecrets(directory)
        self._store = store
        self._seen: dict[str, tuple[str, bool]] = {
            node: (boot, bool(used)) for node, boot, used in store.rows("SELECT node, boot_id, used FROM credentials")
        }

    def join_token(self, node_id: str, generation: int) -> str:
        """Made of the cluster's secret: the same for the same node and generation."""
        return self._secrets.join_token(node_id, generation)

    def admit(self, node_id: str, generation: int, secret: str, boot_id: str) -> Verdict:
        """Checks what a node shows. Durable only after the store's next flush: await it before answering."""
        shown = secret.encode("utf-8", "surrogatepass")
        key = f"{node_id}@{generation}"
        credential = self._secrets.credential(node_id, generation)
        if hmac.compare_digest(shown, credential.encode()):
            boot, used = self._seen.get(key, (boot_id, False))
            if not used:
                self._remember(key, boot, True)
            return Verdict(True)
        if not hmac.compare_digest(shown, self.join_token(node_id, generation).encode()):
            return Verdict(False, code="bad_secret", reason=f"the join token of node {node_id} is wrong", final=True)
        boot, used = self._seen.get(key, ("", False))
        if used or (boot and boot != boot_id):
            return Verdict(
                False, code="token_used", reason=f"the join token of node {node_id} was used before", final=True
            )
        if not boot:
            self._remember(key, boot_id, False)
        return Verdict(True, credential=credential)

    def _remember(self, key: str, boot_id: str, used: bool) -> None:
        self._seen[key] = (boot_id, used)
        self._store.write("INSERT OR REPLACE INTO credentials VALUES (?,?,?)", (key, boot_id, int(used)))


def token_digest(token: str) -> str:
    """SHA-256 in hexadecimal: what is stored instead of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """API access. The admin token is known by its digest only."""

    def __init__(self, admin_sha256: str) -> None:
        self._admin = admin_sha256

    def principal(self, token: str) -> str | None:
        """Whom the token speaks for; None when it is unknown. Compared in constant time."""
        return "admin" if hmac.compare_digest(token_digest(token), self._admin) else None


def private_umask() -> None:
    """Everything the head writes is for its user only."""
    os.umask(0o077)
