"""`python -m clusterctl.client.monitoring.tied PARENT PROGRAM ARGUMENTS...`: becomes that program, which is told to end (SIGTERM)
when process PARENT, who started this, ends in whatever way. Linux knows how; elsewhere only a parent that ends in order tells it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_PARENTS_DEATH_SIGNAL = 1  # of prctl(2)


def main() -> None:
    """Returns only where the parent has ended by now."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SET_PARENTS_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:
        os.execv(program[0], program)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
