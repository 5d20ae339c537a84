"""Which Ray this interpreter has and what beside it, read from the metadata of what is installed. Standard library only, for
the bundle."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEPARATOR = re.compile(r"[-_.]+")
_EXTRA = re.compile(r"""^\s*\(?\s*extra\s*==\s*["']([^"']+)["']\s*\)?\s*$""")


def read_engine_facts() -> dict[str, Any]:
    """{"ray": version or "", "extras": those whose requirements are all installed, "packages": {name: version} of all that is
    beside Ray, {} without it, "python": "3.11", "python_version": "3.11.7", "system", "machine", "libc": "glibc 2.36"}. A few
    milliseconds; Ray itself is not imported. Names are in lower case with single dashes."""
    version, extras = installed_ray()
    return {
        "ray": version,
        "extras": extras,
        "packages": installed_packages() if version else {},
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "python_version": platform.python_version(),
        "system": sys.platform,
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
    }


def installed_ray() -> tuple[str, list[str]]:
    """("", []) where Ray is not installed. Requirements that hold for some platforms only are not looked at."""
    try:
        ray = metadata.distribution("ray")
    except metadata.PackageNotFoundError:
        return "", []
    wanted: dict[str, set[str]] = {extra: set() for extra in ray.metadata.get_all("Provides-Extra") or []}
    for text in ray.requires or []:
        specifier, _, marker = text.partition(";")
        name, extra = _NAME.match(specifier.strip()), _EXTRA.match(marker)
        if name and extra:
            wanted.setdefault(extra.group(1), set()).add(name.group())
    here: dict[str, bool] = {}
    for name in set().union(*wanted.values()):
        here[name] = _is_installed(name)
    return ray.version, sorted(extra for extra, names in wanted.items() if all(here[name] for name in names))


def installed_packages() -> dict[str, str]:
    """{name: version}, by the names of their directories: to read all the files takes a tenth of a second, which each node
    would wait for. Of one that is there twice, the one that would be imported."""
    found: dict[str, str] = {}
    for entry in sys.path:
        for path in Path(entry or ".").glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            found.setdefault(_SEPARATOR.sub("-", name).lower(), version)
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
