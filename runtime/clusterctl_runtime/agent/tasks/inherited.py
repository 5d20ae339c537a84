"""What a process inherits beside its environment, set to what this project states, so that a job starts alike whoever started
its agent: `up` in a shell of any kind, systemd, cron, Docker, another agent.

The agent sets it for itself, once, before it starts anything; what it starts then inherits that. Signals it was told to
ignore it goes on ignoring by a handler, which no child inherits. docs/jobs.md has the list for users.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

JOB_UMASK = 0o022  # the agent's own is stricter: it is given to each program at its start
OPEN_FILES = 65_536  # programs that close every number up to the limit take for ever with a billion of them
STACK_BYTES = 8 * 2**20
_FOR_PYTHON = {
    signal.SIGPIPE,
    getattr(signal, "SIGXFSZ", signal.SIGPIPE),
}  # ignored by Python itself; Popen gives them back
_UNLIMITED = resource.RLIM_INFINITY


def state_what_is_inherited() -> None:
    """Signals, limits, niceness and the preference for being killed; what this user may not change stays as it is."""
    _signals()
    _limits()
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, 0) != 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("0")


def _signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if number not in _FOR_PYTHON and signal.getsignal(number) == signal.SIG_IGN:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, lambda number, frame: None)


def _limits() -> None:
    """A soft limit is whatever somebody's login file says: all are as high as they may be but for three."""
    own = {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_STACK": STACK_BYTES, "RLIMIT_CORE": 0}
    for name in (name for name in dir(resource) if name.startswith("RLIMIT_")):
        number = getattr(resource, name)
        with contextlib.suppress(OSError, ValueError):
            soft, hard = resource.getrlimit(number)
            wanted = own.get(name, hard)
            if hard != _UNLIMITED:
                wanted = hard if wanted == _UNLIMITED else min(wanted, hard)
            if soft != wanted:
                resource.setrlimit(number, (wanted, hard))
