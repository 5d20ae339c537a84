"""How a program of ours is started with this very Python: cut off from PYTHONPATH, PYTHONHOME, the user's site and the current
directory, where anything may lie that has the name of a module of ours, or of one that we use."""

from __future__ import annotations

import importlib.util
import site
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

_CANNOT = ("-P",) if sys.version_info >= (3, 11) else ()  # at least not the current directory


def module(name: str) -> list[str]:
    """What starts a module of ours; its arguments follow."""
    return [sys.executable, *_flags(), "-m", name]


@lru_cache
def _flags() -> tuple[str, ...]:
    """Whoever has clusterctl itself in the user's site, or on PYTHONPATH, starts it from there."""
    if sys.flags.isolated or _is_in_site_packages():
        return ("-I",)
    looked = subprocess.run([sys.executable, "-I", "-c", "import clusterctl_runtime"], capture_output=True)
    return _CANNOT if looked.returncode else ("-I",)


def _is_in_site_packages() -> bool:
    spec = importlib.util.find_spec("clusterctl_runtime")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent.parent) in site.getsitepackages()
