"""One change of a cluster at a time: a lock per name, held by `up` and `down`; the kernel lets it go when they die."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from clusterctl.client.private import make_private_dir
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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(_sentence(name, os.pread(descriptor, 4096, 0))) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "verb": verb}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _sentence(name: str, holder: bytes) -> str:
    who = "another command"
    with suppress(ValueError, TypeError, KeyError):
        body = json.loads(holder)
        who = f"`clusterctl {body['verb']}` (process {body['pid']})"
    return f"{who} is changing cluster {name!r} at this moment: wait until it has ended, or end it, then try again"
