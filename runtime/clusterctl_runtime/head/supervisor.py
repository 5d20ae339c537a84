"""`python -m clusterctl_runtime.head.supervisor DIR`: keeps the head alive. Ends when the head ends with 0 (`down`).

Standard library only and nothing to lose: its whole state is the head's pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import write_private

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
_ISOLATED = ("-I",) if sys.flags.isolated else ()  # as this very process was started
STEADY_SECONDS = 60.0  # a head that ran so long starts the pauses anew


class Supervisor:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._head: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Starts the head again each time that it fails, after a pause; 0 once it has ended well, or a signal has come."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self._stopping:
            started = time.monotonic()
            self._head = subprocess.Popen(
                [sys.executable, *_ISOLATED, "-m", "clusterctl_runtime.head", str(self._directory)],
                stdin=subprocess.DEVNULL,
            )
            if self._stopping:  # the signal came while the head was being started
                self._head.send_signal(signal.SIGTERM)
            code = self._head.wait()
            if code == 0 or self._stopping:
                return 0
            if time.monotonic() - started > STEADY_SECONDS:
                pauses.reset()
            pause = pauses.next()
            with contextlib.suppress(OSError):  # a full disk
                print(
                    f"the head ended with code {code}; starting it again in {pause:.1f} s", file=sys.stderr, flush=True
                )
            time.sleep(pause)
        return 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._head and self._head.poll() is None:
            self._head.send_signal(signal.SIGTERM)
        elif self._head:
            raise SystemExit(0)  # in the pause between two heads


def main() -> int:
    """The process' exit code: 1 where another supervisor keeps this head."""
    directory = Path(sys.argv[1])
    os.umask(0o077)
    try:
        take(directory / "supervisor.lock")
    except LockHeld:
        print(f"another supervisor already keeps the head in {directory}", file=sys.stderr)
        return 1
    pid_file = directory / "supervisor.pid"
    write_private(pid_file, str(os.getpid()))
    try:
        return Supervisor(directory).run()
    finally:
        pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
