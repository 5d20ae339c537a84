"""The first program of the head's container: sees to it that what `up` has installed in this user's home runs, also after the
pod was made anew elsewhere. Standard library only, for Python 3.10; its text is the container's command.

Children that nobody else waits for come to it, as to any first process, and the signal that ends the pod goes on to the keeper,
which ends the head.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path.home() / ".clusterctl-host"
PAUSE = 1.0  # seconds between two starts
END_SECONDS = 25.0


def keepers() -> list[int]:
    """Pids of the keeper of what is installed, which `up` starts, too."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_keeper(path)]


def _is_keeper(process: Path) -> bool:
    try:
        argv = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"--keep" in argv and os.fsencode(ROOT) in argv


def start() -> None:
    """The agent that was put there last keeps the others."""
    bundles = sorted(ROOT.glob("agent-*.pyz"), key=lambda path: path.stat().st_mtime)
    if not bundles or not (ROOT / "keep.json").exists():
        return
    log = os.open(ROOT / "keep.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    argv = [sys.executable, "-I", str(bundles[-1]), "--keep", str(ROOT)]
    subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True, preexec_fn=_unblock
    )
    os.close(log)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reap() -> None:
    """Children that have ended are let go."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Ends with SIGTERM or SIGINT, once the keeper has."""
    os.umask(0o077)
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *ending})  # what comes meanwhile waits
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # else the system does not tell of it
    while True:
        reap()
        if not keepers():
            start()
        if signal.sigwait({signal.SIGCHLD, *ending}) in ending:
            break
        time.sleep(PAUSE)  # between two starts of a keeper that ends at once
    for pid in keepers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while keepers() and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
