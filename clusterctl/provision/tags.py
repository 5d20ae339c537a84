"""The tags that every instance of ours carries. Ownership is the uid; names prove nothing."""

from __future__ import annotations

from clusterctl_providers.base import TAG_CLUSTER, TAG_EXPIRES, TAG_GENERATION, TAG_NODE, TAG_SPEC, TAG_TOKEN, TAG_UID

from clusterctl.core.lifecycle import DEADLINES
from clusterctl.core.model import PENDING_STATES, Node

_LONGEST_BOOT = sum(DEADLINES[state] or 0.0 for state in PENDING_STATES)
_DEFAULT_ORPHAN_TIMEOUT = 900.0


def ownership_tags(cluster: str, uid: str, node: Node, orphan_timeout: float | None = None) -> dict[str, str]:
    """Tags of a node's instance. It expires when even the slowest boot is over and its head was never heard of: by then
    its own dead-man switch has fired, unless a head keeps it alive."""
    lease = _DEFAULT_ORPHAN_TIMEOUT if orphan_timeout is None else orphan_timeout
    return {
        TAG_CLUSTER: cluster,
        TAG_UID: uid,
        TAG_NODE: node.id,
        TAG_GENERATION: str(node.generation),
        TAG_SPEC: node.spec_hash,
        TAG_EXPIRES: str(int(node.created + _LONGEST_BOOT + lease)),
        TAG_TOKEN: node.token,
    }
