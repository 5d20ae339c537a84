"""One change of a cluster at a time: a lock per name, held by `up` and `down`; the kernel lets it go when they die."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import make_private_dir

from clusterctl.client.registry import Registry, checked_name
from clusterctl.core.errors import ClusterctlError


class Busy(ClusterctlError):
    """Another command is changing the same cluster."""


@contextmanager
def changing(registry: Registry, name: str, verb: str) -> Iterator[None]:
    """Holds the lock of cluster `name` for `verb`; raises Busy, which names the holder, when another process has it.

    The file lies beside the clusters' directories, since `down` removes those.
    """
    make_private_dir(registry.home)
    path = make_private_dir(registry.home / "locks") / f"{checked_name(name)}.lock"
    try:
        lock = take(path, json.dumps({"pid": os.getpid(), "verb": verb}))
    except LockHeld as held:
        raise Busy(_sentence(name, held.note)) from None
    with lock:
        yield


def _sentence(name: str, holder: str) -> str:
    who = "another command"
    with suppress(ValueError, TypeError, KeyError):
        body = json.loads(holder)
        who = f"`clusterctl {body['verb']}` (process {body['pid']})"
    return f"{who} is changing cluster {name!r} at this moment: wait until it has ended, or end it, then try again"
