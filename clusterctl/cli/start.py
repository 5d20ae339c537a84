"""The command's first moment. Nothing of it is imported yet, so that a Ctrl-C while it is ends as one later does."""

from __future__ import annotations

import os
from typing import NoReturn


def run() -> NoReturn:
    """Entry point. Exit codes: see docs/cli.md."""
    try:
        from clusterctl.cli.main import run as command

        command()
    except KeyboardInterrupt:
        os.write(2, b"clusterctl: interrupted\n")
        os._exit(130)
