"""Removing what a program left, however it left it: `shutil.rmtree` gives up on trees that are deeper than Python's stack, and
leaves what its owner may not enter. What is mounted below is somebody's data: it is unmounted, and never walked into."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from pathlib import Path

from clusterctl_runtime.files.mount_table import detach_below

log = logging.getLogger(__name__)


def remove_tree(path: Path) -> None:
    """Removes a directory of ours with all that is its own; what cannot be removed is logged. Blocks."""
    if left := detach_below(path):
        log.warning("%s stays: what is mounted at %s cannot be unmounted", path, ", ".join(left))
        return
    with contextlib.suppress(RecursionError):  # rm goes down as deep as the file system does
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for argv in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        done = subprocess.run([*argv, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode and argv[0] == "rm":
            log.warning("%s cannot be removed: %s", path, done.stderr.decode(errors="backslashreplace").strip()[:500])
