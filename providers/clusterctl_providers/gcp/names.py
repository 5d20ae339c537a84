"""How instances of a cluster are called, and what they carry as labels; what no label takes goes into their metadata.

    us-central1-a/clusterctl-demo-1a2b3c4d-cpu-17-1     an id: zone and name, and in the name cluster, uid, node, generation

All instances of one launch have the same labels, so the name says which node each is. A name that grows too long gives up the
cluster's part first, then the node's for a digest: such an instance is launched alone, and its labels say who it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from clusterctl_providers.base import TAG_TOKEN
from clusterctl_providers.cloud import naming
from clusterctl_providers.cloud.batches import TAG_NODES, Member
from clusterctl_providers.cloud.naming import OURS

TAG_LAUNCH = "clusterctl-launch"  # of the instances of one call: the token of it, as far as it goes into a label
LONGEST = 63
_ID = re.compile(r"[a-z][a-z0-9-]*-[a-z]/[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def is_id(text: str) -> bool:
    """Whether it could be an instance's at all."""
    return _ID.fullmatch(text) is not None


def id_of(zone: str, name: str) -> str:
    return f"{zone}/{name}"


def zone_and_name(instance_id: str) -> tuple[str, str]:
    zone, _, name = instance_id.partition("/")
    return zone, name


def region_of(zone: str) -> str:
    return zone.rpartition("-")[0]


# ------------------------------------------------------------ names


def instance_name(cluster: str, uid: str, member: Member) -> str:
    """At most 63 characters, another one for every node and generation of every cluster."""
    return naming.node_name(cluster, uid, member, LONGEST)


def tells(cluster: str, uid: str, member: Member) -> bool:
    """Whether the name alone says which node it is."""
    return member_in(instance_name(cluster, uid, member), cluster, uid) == member


def member_in(name: str, cluster: str, uid: str) -> Member:
    """Which node an instance of that name is: ("", 0) where the name does not say."""
    return naming.member_in(name, cluster, uid, LONGEST)


# ------------------------------------------------------------ labels


def labels_and_metadata(tags: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What of these tags becomes a label, and what goes into the instances' metadata instead. Of ours a label takes what has
    other characters too, written as _xx; the token follows from uid, node and generation."""
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for key, value in tags.items():
        if key == TAG_TOKEN:
            continue
        written = _written(value) if key.startswith(OURS) and key != TAG_NODES else value
        if key[:1].isalpha() and _is_label(key) and _is_label(written):
            labels[key] = written
        else:
            metadata[key] = value
    return labels, metadata


def tags_in(labels: Mapping[str, str]) -> dict[str, str]:
    """The inverse, for an instance's labels."""
    return {key: _read(value) if key.startswith(OURS) else value for key, value in labels.items()}


def member_of(name: str, tags: Mapping[str, str]) -> Member:
    """Which node an instance with that name and these tags is: ("", 0) where neither says."""
    return naming.member_of(name, tags, LONGEST)


def _is_label(text: str) -> bool:
    """Google takes letters of any script that have no capital form, or are not in it."""
    return len(text) <= LONGEST and all(c in "_-" or (c.isalnum() and c == c.lower()) for c in text)


def _written(text: str) -> str:
    return "".join(c if re.fullmatch(r"[a-z0-9-]", c) else "".join(f"_{b:02x}" for b in c.encode()) for c in text)


def _read(text: str) -> str:
    parts = _ESCAPED.split(text)
    raw = b"".join(bytes.fromhex(part) if n % 2 else part.encode() for n, part in enumerate(parts))
    return raw.decode("utf-8", "replace")
