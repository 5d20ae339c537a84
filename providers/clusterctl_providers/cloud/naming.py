"""Names of what is made for a cluster: the same for the same thing, so that a repeated call meets what it made, and the
cluster's alone.

    AWS           names of groups and keys have 255 characters, roles 64; any case
    Google Cloud  63 of [a-z0-9-], beginning with a letter: also instances, which are known by their name
    Azure         64 of a VM on Linux, 80 of a network card; a resource group is known by its name
"""

from __future__ import annotations

import hashlib

OURS = "clusterctl"
UID_PART = 8  # characters of the uid, enough to be the only cluster of that name
_DIGEST = 8


def made_name(cluster: str, uid: str, *parts: str, longest: int) -> str:
    """clusterctl-CLUSTER-UID-PART...; where that has more than `longest` characters, the cluster's name and the parts are
    cut, and a digest of the whole keeps it the only one."""
    whole = "-".join([OURS, cluster, uid[:UID_PART], *parts])
    if len(whole) <= longest:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST]
    fixed = f"{OURS}-{uid[:UID_PART]}-{digest}"
    rest = "-".join([cluster, *parts])[: longest - len(fixed) - 1].rstrip("-")
    return f"{OURS}-{rest}-{uid[:UID_PART]}-{digest}" if rest else fixed
