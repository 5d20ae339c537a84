"""Names of what is made for a cluster: the same for the same thing, so that a repeated call meets what it made, and the
cluster's alone.

    AWS           names of groups and keys have 255 characters, roles 64; any case
    Google Cloud  63 of [a-z0-9-], beginning with a letter: also instances, which are known by their name
    Azure         64 of a VM on Linux, 80 of a network card; a resource group is known by its name
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_UID
from clusterctl_providers.cloud.batches import Member

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


def node_name(cluster: str, uid: str, member: Member, longest: int) -> str:
    """clusterctl-CLUSTER-UID-NODE-GENERATION, another one for every node and generation of every cluster. One that grows too
    long gives up the cluster's part first, then the node's for a digest."""
    who = f"{member[0]}-{member[1]}"
    fixed = f"{uid[:UID_PART]}-{who}"
    room = longest - len(OURS) - len(fixed) - 2
    if room < -1:
        digest = hashlib.sha256(f"{uid}/{who}".encode()).hexdigest()[:_DIGEST]
        left = longest - len(f"{OURS}-{uid[:UID_PART]}--{digest}")
        return f"{OURS}-{uid[:UID_PART]}-{member[0][:left].rstrip('-')}-{digest}"
    part = cluster[: max(room, 0)].rstrip("-")
    return "-".join(filter(None, (OURS, part, fixed)))


def member_in(name: str, cluster: str, uid: str, longest: int) -> Member:
    """Which node a machine of that name is: ("", 0) where the name does not say."""
    found = re.fullmatch(rf"{OURS}-(?:.*-)?{re.escape(uid[:UID_PART])}-(.+)-(0|[1-9]\d*)", name)
    if not found:
        return "", 0
    member = found[1], int(found[2])
    return member if node_name(cluster, uid, member, longest) == name else ("", 0)


def member_of(name: str, tags: Mapping[str, str], longest: int) -> Member:
    """Which node a machine with that name and these tags is: ("", 0) where neither says."""
    if TAG_NODE in tags:
        generation = tags.get(TAG_GENERATION, "")
        return tags[TAG_NODE], int(generation) if generation.isdecimal() else 0
    return member_in(name, tags.get(TAG_CLUSTER, ""), tags.get(TAG_UID, ""), longest)
