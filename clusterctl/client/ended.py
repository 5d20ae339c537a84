"""Clusters that have ended themselves: what their head left to say so, on this machine or on the host where it ran. On a cloud
the instance that it ran on is gone, with the note on a disk that nobody reads: there the provider is asked what it still has
(see down.asking).

Nothing of such a cluster runs any more, and it is known here until `down`, or starts again with `up`.
"""

from __future__ import annotations

from typing import Any

from clusterctl.client.registry import Cluster, read_note
from clusterctl.core.lifetime import moment

STATE = "ended"
FILE = "ended.json"  # the head's note; here beside what is kept of a head elsewhere
LIFETIME_FILE = "lifetime.json"  # what the head saw, and decided
HEAD_PLACE = "head-place.json"  # which instance the head is, and where in the network


def note_of(cluster: Cluster) -> dict[str, Any]:
    """What the head noted last, as far as it is known on this machine: {"at", "rule", "text", "cost", "jobs"}; {} for a cluster
    that has not ended itself. Where its head was an instance, `at` is when it was found gone, `cost` is None, there is no `rule`,
    "disk" is the id of the one with its state, and "billed" tells what remains and costs money."""
    return read_note((cluster.directory if cluster.head_is_remote else cluster.head_dir) / FILE)


def sentence(cluster: Cluster, note: dict[str, Any]) -> str:
    """When, why, what is left, and what to do."""
    up, down = f"`clusterctl up {cluster.spec_path or 'SPEC'}`", f"`clusterctl down {cluster.name}`"
    if "disk" in note:
        disk = (
            f"queue and logs are on {note['disk']}, and billed is {note['billed']}"
            if note["disk"]
            else "no disk is left"
        )
        return (
            f"cluster {cluster.name!r} has ended itself: nothing of it runs, as was found at {moment(float(note['at']))}, and "
            f"{note['text']}; {disk}. {up} starts it again with its jobs; {down} removes what is left and forgets it"
        )
    where = "on its head's host" if cluster.head_is_remote else f"in {cluster.head_dir}"
    return (
        f"cluster {cluster.name!r} ended itself at {moment(float(note['at']))}, since {note['text']}: nothing of it runs. "
        f"{up} starts it again with its jobs and their logs, which are kept {where}; {down} removes them and forgets it"
    )


def said_at(cluster: Cluster, note: dict[str, Any]) -> str:
    """The same for whoever removes what is left."""
    found = "which was found " if "disk" in note else ""
    return (
        f"cluster {cluster.name} had ended itself, {found}at {moment(float(note['at']))}: what is left of it is removed"
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
