"""What the first process of a container owes to the others, when the agent is that process."""

from __future__ import annotations

import contextlib
import os
import signal


def stand_in_for_init() -> None:
    """Returns in a child that is the agent; the first process passes signals on, collects orphans, and ends as it ends."""
    if os.getpid() != 1:
        return
    agent = os.fork()
    if agent == 0:
        return

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        pid, status = os.wait()
        if pid == agent:
            code = os.waitstatus_to_exitcode(status)
            os._exit(128 - code if code < 0 else code)
