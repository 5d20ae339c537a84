"""Builds the one file that a node runs: a zipapp named by its digest, the same bytes wherever it is built.

Runs where the package is installed (client or head). Entries are stored, not compressed: the bytes then do not depend
on the compressor's version, and the agent starts sooner.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

from clusterctl_runtime.files.private import write_private

_PACKAGE = Path(__file__).resolve().parent.parent
_FILES = [
    "__init__.py",
    "wire.py",
    "backoff.py",
    *(f"files/{name}.py" for name in ("__init__", "lock", "manifest", "mount_table", "private")),
] + [
    f"engine/{name}.py"
    for name in ("__init__", "command", "found", "installing", "launch", "ports", "processes", "start")
]
_SHEBANG = b"#!/usr/bin/env python3\n"
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the zip format knows nothing older


def build_bundle(directory: Path) -> tuple[Path, str]:
    """Writes `agent-DIGEST.pyz` into `directory` unless it is there; returns its path and its SHA-256 in hex."""
    data = bundle_bytes()
    digest = hashlib.sha256(data).hexdigest()
    path = directory / f"agent-{digest}.pyz"
    with contextlib.suppress(FileNotFoundError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            return path, digest
    directory.mkdir(parents=True, exist_ok=True)
    write_private(path, data, mode=0o755)
    return path, digest


def bundle_bytes() -> bytes:
    """The zipapp of the installed sources."""
    content = {f"clusterctl_runtime/{name}": (_PACKAGE / name).read_bytes() for name in _names()}
    content["__main__.py"] = _main().encode()
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _OLDEST)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, content[name])
    return buffer.getvalue()


def _names() -> list[str]:
    agent = sorted(
        path.relative_to(_PACKAGE).as_posix() for path in (_PACKAGE / "agent").rglob("*.py") if path.name != "bundle.py"
    )
    return [name for name in _FILES + agent if (_PACKAGE / name).exists()]


def _main() -> str:
    try:
        version = metadata.version("clusterctl")
    except metadata.PackageNotFoundError:
        version = "source"
    return f"from clusterctl_runtime.agent.__main__ import run\n\nrun({version!r})\n"
