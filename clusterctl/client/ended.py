"""Clusters that have ended themselves: what their head left to say so, on this machine or on the host where it ran.

Nothing of such a cluster runs any more, and it is known here until `down`, or starts again with `up`.
"""

from __future__ import annotations

import json
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.registry import Cluster, read_note
from clusterctl.core.errors import ClusterctlError
from clusterctl.core.lifetime import moment

STATE = "ended"
FILE = "ended.json"  # the head's note; here beside what is kept of a head elsewhere
LIFETIME_FILE = "lifetime.json"  # what the head saw, and decided


def note_of(cluster: Cluster) -> dict[str, Any]:
    """What the head noted last, as far as it is known on this machine: {"at", "rule", "text", "cost", "jobs"}; {} for a cluster
    that has not ended itself."""
    return read_note((cluster.directory if cluster.head_is_remote else cluster.head_dir) / FILE)


def ask(cluster: Cluster) -> dict[str, Any]:
    """The same; where the head ran elsewhere and its cluster may end itself, its host is asked, which may be long in coming."""
    found = note_of(cluster)
    if found or not cluster.on_hosts or not _may_end(cluster):
        return found
    try:
        found = _asked(cluster)
    except ClusterctlError:
        return {}
    if found:
        write_private(cluster.directory / FILE, json.dumps(found))
    return found


def _asked(cluster: Cluster) -> dict[str, Any]:
    from clusterctl.client.nodes.machines import head_machine, open_hosts

    connection = open_hosts(cluster.directory, lambda _: None).connect(head_machine(cluster.directory))
    try:
        return dict(connection.ask({"do": "ended"}).get("ended") or {})
    finally:
        connection.close()


def _may_end(cluster: Cluster) -> bool:
    """By the spec that was last put in force from here."""
    from clusterctl.spec.load import parse_spec
    from clusterctl.spec.to_core import core_lifetime

    try:
        return bool(core_lifetime(parse_spec(cluster.spec_file.read_text(encoding="utf-8"), str(cluster.spec_file))))
    except (OSError, ClusterctlError):
        return False


def sentence(cluster: Cluster, note: dict[str, Any]) -> str:
    """When, why, what is left, and what to do."""
    where = "on its head's host" if cluster.head_is_remote else f"in {cluster.head_dir}"
    return (
        f"cluster {cluster.name!r} ended itself at {moment(float(note['at']))}, since {note['text']}: nothing of it runs. "
        f"`clusterctl up {cluster.spec_path or 'SPEC'}` starts it again with its jobs and their logs, which are kept {where}; "
        f"`clusterctl down {cluster.name}` removes them and forgets it"
    )


def revive(cluster: Cluster) -> None:
    """A head may start again on this machine, and its lifetime begins anew."""
    if cluster.head_is_remote:
        (cluster.directory / FILE).unlink(missing_ok=True)
    elif (cluster.head_dir / FILE).exists():
        (cluster.head_dir / LIFETIME_FILE).unlink(
            missing_ok=True
        )  # the decision first: with it alone it would end anew
        (cluster.head_dir / FILE).unlink()
