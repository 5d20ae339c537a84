"""The container image of nodes whose spec names none."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from clusterctl_runtime.engine.environment import TESTED_VERSION

if TYPE_CHECKING:
    from clusterctl.spec.parts import Ray


def default_image(ray: Ray | None) -> str:
    """A public one with this Python, and with the Ray of the spec, else the one that is installed here."""
    python = sys.version_info
    if ray is None:
        return f"python:{python.major}.{python.minor}-slim"
    try:
        version = ray.version or importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        version = TESTED_VERSION
    return f"rayproject/ray:{version}-py{python.major}{python.minor}"
