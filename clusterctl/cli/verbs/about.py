"""`clusterctl version`."""

from __future__ import annotations

import platform
import sys

from clusterctl.cli.call import Call, verb
from clusterctl.version import __version__


@verb
def version(call: Call) -> None:
    """Print the version.

    \b
    Example:
      clusterctl version --json
    """
    document = {"version": __version__, "python": platform.python_version(), "executable": sys.executable}
    call.show(document, lambda d: f"clusterctl {d['version']} (Python {d['python']}, {d['executable']})")
