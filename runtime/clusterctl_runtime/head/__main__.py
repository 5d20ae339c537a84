"""`python -m clusterctl_runtime.head DIR`: the head daemon. Ends with 0 only when the cluster was taken down or has ended
itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import logging.handlers
import resource
import signal
import sys
from pathlib import Path

from clusterctl.core.errors import ClusterctlError
from clusterctl_runtime.files.lock import Lock, LockHeld, take
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.handover import FILE as HANDOVER_FILE
from clusterctl_runtime.head.lifetime.watch import ENDED_FILE
from clusterctl_runtime.head.loop import run
from clusterctl_runtime.head.nodes.admission import private_umask

SWITCH_SECONDS = (
    0.0005  # so long the event loop waits at most for a thread that computes, each time it has read or sent
)
STOPPED_BY_SIGNAL = 75  # the cluster lives on without its head


def _lock(directory: Path) -> Lock:
    try:
        return take(directory / "head.lock")
    except LockHeld:
        raise ClusterctlError(f"another head already runs in {directory}") from None


def _allow_files() -> None:
    """As many open files as this process may have at all: each agent is a connection, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # not where the kernel's own limit is below it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(directory: Path) -> int:
    from clusterctl_runtime.head.api import create_app
    from clusterctl_runtime.head.api.server import ApiServer
    from clusterctl_runtime.head.head import Head

    head = Head(HeadConfig.load(directory))
    code = 0

    def stop() -> None:
        nonlocal code
        code = STOPPED_BY_SIGNAL
        head.ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await head.run(ApiServer(create_app(head)))
    return code


def _has_ended(directory: Path) -> bool:
    """Whether nothing is left to be done. On an instance of its cluster a head ends that one last, and noted the end before."""
    return (directory / ENDED_FILE).exists() and not (directory / HANDOVER_FILE).exists()


def main() -> int:
    """The process' exit code: 0 after `down`, STOPPED_BY_SIGNAL, or 1 where the head cannot run, with why in `head.error`."""
    directory = Path(sys.argv[1])
    private_umask()
    _allow_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()  # until the queue is loaded: see garbage.py
    handler = logging.handlers.RotatingFileHandler(directory / "head.log", maxBytes=20_000_000, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        with _lock(directory):
            if _has_ended(directory):
                logging.info("the cluster has ended itself: `clusterctl up SPEC` starts it again")
                return 0
            return run(_serve(directory))
    except ClusterctlError as error:
        logging.error("%s", error)
        write_private(
            directory / "head.error", str(error)
        )  # `up` shows it instead of waiting for a head that cannot start
        return 1


if __name__ == "__main__":
    sys.exit(main())
