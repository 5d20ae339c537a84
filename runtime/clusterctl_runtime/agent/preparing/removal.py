"""Removing what a program left, however it left it: `shutil.rmtree` gives up on trees that are deeper than Python's stack, and
leaves what its owner may not enter."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)


def remove_tree(path: Path) -> None:
    """Removes a directory of ours with all that is in it; what cannot be removed is logged. Blocks."""
    with contextlib.suppress(RecursionError):  # rm goes down as deep as the file system does
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for argv in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        done = subprocess.run([*argv, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode and argv[0] == "rm":
            log.warning("%s cannot be removed: %s", path, done.stderr.decode(errors="backslashreplace").strip()[:500])
