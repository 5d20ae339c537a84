"""What the head's machine needs to run the head: our packages and those they need, taken from this very installation.

Where the machine's Python is of the same minor version, kind of processor and C library, the installed files themselves go
there, compiled ones too: no network, no index, the same versions. For other machines the packages of others are given, as
`client.up.foreign_packages` makes them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import platform
import sys
import tarfile
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clusterctl.provision.ssh.requirements import Environment, closure, needed
from clusterctl.spec.providers.registry import KINDS

OURS = ("clusterctl", "clusterctl_providers", "clusterctl_runtime", "clusterctl_templates")
CLIENT_ONLY = frozenset({"typer", "rich", "httpx"})  # what only the command line imports
# directory of site-packages -> the entries of it that travel
CALLED = {name: called for kind in KINDS.values() if kind.library for name, called in kind.library.data.items()}
KEPT = 6  # archives, the newest ones: one for each provider, of some 20 MiB
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Distribution:
    """`name` is its directory on the host; `archive` a compressed tar of site-packages."""

    name: str
    archive: bytes


def fits(facts: dict[str, Any]) -> bool:
    """Whether this installation's files run on the host."""
    here = (f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine(), platform.libc_ver()[0])
    return here == (facts["python_minor"], facts["machine"], facts["libc"])


def build_ahead(cache: Path, extras: tuple[str, ...] = ()) -> None:
    """Begins to make what most hosts take, while it is not known yet whether this one does: a second, once per version."""
    threading.Thread(target=build, args=(cache,), kwargs={"extras": extras}, daemon=True).start()


def build(cache: Path, *, extras: tuple[str, ...] = (), others: Path | None = None) -> Distribution:
    """`extras`: of ours, such as a cloud's; `others`: a directory with the packages that we need, if not those installed here.
    The archive is kept in `cache` by the digest of what is in it."""
    with _ONE_AT_A_TIME:
        return _build(cache, extras, others)


def _build(cache: Path, extras: tuple[str, ...], others: Path | None) -> Distribution:
    files = {**dict(_our_files()), **dict(_our_metadata())}
    if others is not None:
        files.update((str(path.relative_to(others)), path) for path in sorted(others.rglob("*")) if path.is_file())
    else:
        for name in sorted(head_packages(extras)):
            files.update(_files_of(name))
    files = {name: path for name, path in files.items() if is_called(name)}
    digest = _digest(files)
    path = cache / f"dist-{digest}.tar.gz"
    if not path.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(cache)
        write_private(path, _archive(files))
    return Distribution(f"dist-{digest}", path.read_bytes())


def _make_room(cache: Path) -> None:
    """Whoever has clusters in several clouds goes from one to the other, and each has an archive of its own."""
    archives = sorted(cache.glob("dist-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for old in archives[: max(0, len(archives) + 1 - KEPT)]:
        old.unlink(missing_ok=True)


def head_packages(extras: Collection[str] = ()) -> set[str]:
    """The distributions that the head needs besides our own and that are installed here, by name."""
    return closure(OURS[0], extras, without=CLIENT_ONLY)


def head_requirements(environment: Environment, extras: Collection[str] = ()) -> list[Requirement]:
    """What the head needs where `environment` holds, in the words of our own package."""
    return [one for one in needed(OURS[0], extras, environment) if canonicalize_name(one.name) not in CLIENT_ONLY]


def _our_files() -> Iterator[tuple[str, Path]]:
    for package in OURS:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed"
        top = Path(spec.origin).parent
        for path in sorted(top.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield from _with_bytecode(f"{package}/{path.relative_to(top)}", path)


def _our_metadata() -> Iterator[tuple[str, Path]]:
    """What says which version we are: the agent's bundle that the head builds is then the one that is built here."""
    for entry in metadata.files("clusterctl") or []:
        if entry.name == "METADATA":
            yield str(entry), Path(str(entry.locate()))


@functools.cache
def _files_of(name: str) -> tuple[tuple[str, Path], ...]:
    """Of an installed distribution. What is installed stays as it is while this process runs."""
    return tuple(_installed(name))


def _installed(name: str) -> Iterator[tuple[str, Path]]:
    for entry in metadata.files(name) or []:
        if entry.parts[0] == ".." or entry.suffix == ".pyc":
            continue  # console scripts, and bytecode that is added below when it is there
        path = Path(str(entry.locate()))
        if path.is_file():
            yield from _with_bytecode(str(entry), path)


def is_called(name: str) -> bool:
    """Of directories that describe more than is called only that goes there, and the files that lie in them directly."""
    for directory, called in CALLED.items():
        before, _, inside = name.partition(f"{directory}/")
        if not before and "/" in inside and inside.split("/")[0] not in called:
            return False
    return True


def _with_bytecode(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """The file, and its compiled form for a quicker first start (valid as long as the modification time is kept)."""
    yield name, path
    if path.suffix == ".py":
        compiled = Path(importlib.util.cache_from_source(str(path)))
        if compiled.is_file():
            yield f"{Path(name).parent}/__pycache__/{compiled.name}", compiled


def _digest(files: dict[str, Path]) -> str:
    """By content for our own files, by size and time for others': they change only when they are installed anew."""
    whole = hashlib.sha256()
    for name in sorted(files):
        if name.endswith(".pyc"):
            continue
        state = files[name].stat()
        whole.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return whole.hexdigest()[:16]


def _archive(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            entry = archive.gettarinfo(str(files[name]), name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with files[name].open("rb") as file:
                archive.addfile(entry, file)
    return buffer.getvalue()
