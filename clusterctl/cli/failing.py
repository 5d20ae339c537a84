"""What this machine's system refused, in a sentence: which file or disk, why, and what to do."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from clusterctl.client.full_disk import NO_SPACE, full_disk
from clusterctl.client.registry import Registry


def sentence(error: OSError) -> str:
    """For an error that no verb has a sentence of its own for."""
    home = Registry().home
    named = [Path(str(name)) for name in (error.filename, error.filename2) if name]
    path = named[0] if named else None
    if error.errno in NO_SPACE:
        tried = [*named, home, Path(tempfile.gettempdir()), Path()]
        return full_disk(one.absolute() for one in tried) or f"no space is left on a disk of this machine ({error})"
    if path is None:
        return f"the system refused something: {error} (-v shows where)"
    if path == home and not home.is_dir():
        return f"{home} is to be the directory for all that is kept (CLUSTERCTL_HOME), and is a file: name another"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        ours = home in (path, *path.parents)
        other = ", or set CLUSTERCTL_HOME to a directory that you can write to" if ours else ""
        return f"{path} cannot be used ({error.strerror}): check who owns it, and its mode{other}"
    return f"{path}: {error.strerror or error} (-v shows where it was used)"
