"""How VMs of a cluster are called, and what they carry as tags.

    clusterctl-demo-1a2b3c4d-cpu-17-1     an id is the VM's name: cluster, uid, node, generation

The resource group is the same for all of a cluster's VMs, so the name alone finds one. A name that grows too long gives up the
cluster's part first, then the node's for a digest; who it is, its tags say anyway: a VM is a PUT of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from clusterctl_providers.cloud import naming
from clusterctl_providers.cloud.batches import Member
from clusterctl_providers.cloud.naming import OURS

LONGEST = 64  # of a VM with Linux, whose computer name it is as well
_ID = re.compile(rf"{OURS}-[a-z0-9](?:[a-z0-9-]{{0,{LONGEST - len(OURS) - 3}}}[a-z0-9])?")


def is_id(text: str) -> bool:
    """Whether it could be a VM's of ours at all."""
    return _ID.fullmatch(text) is not None


def name_in(arm_id: str) -> str:
    """The last part of an ARM id, as we write it: Azure keeps no case, and may answer in any."""
    return arm_id.rstrip("/").rpartition("/")[2].lower()


def vm_name(cluster: str, uid: str, member: Member) -> str:
    """At most 64 characters, another one for every node and generation of every cluster."""
    return naming.node_name(cluster, uid, member, LONGEST)


def member_in(name: str, cluster: str, uid: str) -> Member:
    """Which node a VM of that name is: ("", 0) where the name does not say."""
    return naming.member_in(name, cluster, uid, LONGEST)


def member_of(name: str, tags: Mapping[str, str]) -> Member:
    """Which node a VM with that name and these tags is: ("", 0) where neither says."""
    return naming.member_of(name, tags, LONGEST)


def tags_in(row: Mapping[str, object]) -> dict[str, str]:
    """Of a resource. Keys of ours in lower case: Azure takes a key in any case for the same one, and may answer in another."""
    found = row.get("tags") or {}
    assert isinstance(found, Mapping)
    return {_key(str(key)): str(value) for key, value in found.items()}


def _key(key: str) -> str:
    return key.lower() if key.lower().startswith(OURS) else key
