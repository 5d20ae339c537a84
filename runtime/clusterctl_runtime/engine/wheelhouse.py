"""The wheels of engine environments: resolved with uv, downloaded once, kept by content for all who want the same.

STORE/wheels/SHA256           a wheel, whole or not there
STORE/KEY.json                which wheels a request resolved to; written before they are fetched, so that a download
                              that was interrupted goes on with the same ones
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from clusterctl.core.errors import ClusterctlError
from clusterctl_runtime.engine.index import BROKEN, UV_VERSION, IndexUnreachable, find_uv, open_url, uv_environment
from clusterctl_runtime.files.lock import wait_for
from clusterctl_runtime.files.private import part_of, put_in_place, write_private

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AT_ONCE = 6
TRIES = 4
RESOLVE_SECONDS = 120.0
_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)  # minor versions that uv knows as platforms
_COMMON_GLIBC = 28  # newer machines share the wheels of this one
_BLAME = re.compile(r"No solution found|not a valid|no version of|unsatisfiable", re.IGNORECASE)


class NoWheels(ClusterctlError):
    """The wanted environment does not exist, whoever asks; the message has uv's reason."""


@dataclass(frozen=True)
class Wanted:
    """Which environment. `python` is "3.11", `platform` as uv names it."""

    ray: str
    extras: tuple[str, ...]
    python: str
    platform: str
    packages: tuple[str, ...] = ()  # requirements of the spec, beside Ray

    @property
    def key(self) -> str:
        asked = asdict(self)
        if not self.packages:
            del asked["packages"]  # what was resolved before there were any is known by the same key
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def requirements(self) -> list[str]:
        """pip is for runtime environments, which Ray makes with it; uv is what installs on the nodes."""
        return [f"ray[{','.join(self.extras)}]=={self.ray}", *self.packages, "pip", f"uv=={UV_VERSION}"]

    def __str__(self) -> str:
        with_packages = f" and {', '.join(self.packages)}" if self.packages else ""
        extras = ", ".join(self.extras)
        return f"Ray {self.ray} with {extras}{with_packages} for Python {self.python} on {self.platform}"


@dataclass(frozen=True)
class Wheel:
    """`size` in bytes, 0 before it is here where the index does not say; `url` is "" for one that was brought."""

    file: str
    sha256: str
    size: int
    url: str = ""


def platform_of(facts: Mapping[str, Any]) -> str:
    """uv's name of a machine's platform, from its engine facts. Raises NoWheels where Ray has no wheels."""
    system, machine = str(facts.get("system")), str(facts.get("machine"))
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine)
    if system == "darwin":
        return f"{machine}-apple-darwin"
    name, _, version = str(facts.get("libc") or "").partition(" ")
    if system != "linux" or name != "glibc":
        raise NoWheels(
            f"Ray cannot be installed on {system} with {name or 'this C library'}: it has wheels for Linux with glibc and for "
            "macOS; set engine.ray.python to a Python that has it, or write `engine: none`"
        )
    minor = int("".join(c for c in version.partition(".")[2] if c.isdigit()) or 17)
    return f"{machine}-manylinux_2_{_COMMON_GLIBC if minor >= _COMMON_GLIBC else next(n for n in _GLIBC if n <= max(minor, 17))}"


def environment_of(wanted: Wanted, wheels: list[Wheel]) -> dict[str, Any]:
    """What a node is told to install (`installing.Installation`). Its digest stands for all that is in it."""
    content = [wanted.python, *sorted(wheel.sha256 for wheel in wheels)]
    return {
        "digest": hashlib.sha256("\n".join(content).encode()).hexdigest(),
        "ray": wanted.ray,
        "extras": list(wanted.extras),
        "packages": list(wanted.packages),
        "python": wanted.python,
        "wheels": [{"file": w.file, "sha256": w.sha256, "size": w.size} for w in wheels],
    }


class Wheelhouse:
    """Below `store`. Thread-safe, and safe beside other processes."""

    def __init__(self, store: Path) -> None:
        self._store = store
        (store / "wheels").mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where this wheel is, once it is here."""
        return self._store / "wheels" / sha256

    def known(self, wanted: Wanted) -> list[Wheel] | None:
        """The wheels, if all of them are here."""
        wheels = self._resolved(wanted)
        return wheels if wheels and all(wheel.size and self._is_here(wheel) for wheel in wheels) else None

    def get(self, wanted: Wanted, tell: Callable[[str], None]) -> list[Wheel]:
        """Resolves and downloads what is missing. Raises IndexUnreachable or NoWheels."""
        wheels = self.known(wanted)
        if wheels is not None:
            return wheels
        waits = f"Ray {wanted.ray} waits for another cluster's download on this machine"
        with wait_for(self._store / "wheels" / ".lock", lambda: tell(waits)):  # two would write the same files
            return self._fetch(wanted, tell)

    def _fetch(self, wanted: Wanted, tell: Callable[[str], None]) -> list[Wheel]:
        env, wheels = uv_environment(), self._resolved(wanted)
        if wheels is None or any(not wheel.url and not self._is_here(wheel) for wheel in wheels):
            tell(f"Ray {wanted.ray} is looked for in the package index")
            wheels = resolve(wanted, find_uv(self._store, env), env)
            self.keep(wanted, wheels)
        self._download(wanted, [wheel for wheel in wheels if not self._is_here(wheel)], len(wheels), env, tell)
        wheels = [replace(wheel, size=self.path(wheel.sha256).stat().st_size) for wheel in wheels]
        self.keep(wanted, wheels)
        return wheels

    def keep(self, wanted: Wanted, wheels: list[Wheel]) -> None:
        """Notes what a request resolved to."""
        path = self._store / f"{wanted.key}.json"
        note = {"wanted": asdict(wanted), "wheels": [asdict(wheel) for wheel in wheels]}
        write_private(path, json.dumps(note, indent=1))

    def place(self, wheel: Wheel, source: Path) -> None:
        """Takes a wheel from a file whose digest has been checked."""
        if not self._is_here(wheel):
            with part_of(self.path(wheel.sha256)) as part:
                part.unlink()
                try:
                    os.link(source, part)
                except OSError:  # another file system
                    shutil.copyfile(source, part)
                put_in_place(part, self.path(wheel.sha256))

    def _resolved(self, wanted: Wanted) -> list[Wheel] | None:
        try:
            found = json.loads((self._store / f"{wanted.key}.json").read_text())
            return [Wheel(**wheel) for wheel in found["wheels"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _is_here(self, wheel: Wheel) -> bool:
        try:
            return self.path(wheel.sha256).stat().st_size == wheel.size or not wheel.size
        except FileNotFoundError:
            return False

    def _download(
        self, wanted: Wanted, missing: list[Wheel], count: int, env: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        done, size, lock = count - len(missing), sum(wheel.size for wheel in missing), threading.Lock()

        def one(wheel: Wheel) -> None:
            nonlocal done
            download(wheel, self.path(wheel.sha256), env)
            with lock:
                done += 1
                much = f", {size / 2**20:.0f} MiB" if size else ""
                tell(f"Ray {wanted.ray} is downloaded ({done} of {count} wheels{much})")

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="wheels") as pool:
            for future in [pool.submit(one, wheel) for wheel in sorted(missing, key=lambda wheel: -wheel.size)]:
                future.result()


# ---------------------------------------------------------------- the index


def resolve(wanted: Wanted, uv: str, env: Mapping[str, str]) -> list[Wheel]:
    """Exact versions with their wheels for that Python and platform. Raises IndexUnreachable or NoWheels."""
    with tempfile.TemporaryDirectory(prefix="clusterctl-") as directory:
        place = Path(directory)
        (place / "wanted.txt").write_text("\n".join(wanted.requirements) + "\n")
        argv = [
            uv, "pip", "compile", "--quiet", "wanted.txt", "--format", "pylock.toml", "--output-file", "pylock.toml",
            "--python", sys.executable, "--python-version", wanted.python, "--python-platform", wanted.platform,
            "--only-binary", ":all:", "--no-python-downloads",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv, cwd=place, env=dict(env), capture_output=True, text=True, timeout=RESOLVE_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise IndexUnreachable(f"the package index gave no answer within {RESOLVE_SECONDS:.0f} s") from None
        if done.returncode:
            said = done.stderr.strip()[-1500:]
            if _BLAME.search(said):
                raise NoWheels(f"{wanted} is not in the package index: {said}")
            raise IndexUnreachable(f"{wanted} could not be looked for in the package index: {said}")
        lock = tomllib.loads((place / "pylock.toml").read_text())
        return [_best(package, place) for package in lock["packages"]]


def _best(package: Mapping[str, Any], place: Path) -> Wheel:
    """uv lists those that fit the platform; the most specific of them is the one that it would take itself."""
    found = max(package["wheels"], key=lambda entry: _specific(_file_of(entry)))
    url = str(found.get("url") or "") or (place / found["path"]).resolve().as_uri()
    return Wheel(_file_of(found), found["hashes"]["sha256"], int(found.get("size") or 0), url)


def _file_of(entry: Mapping[str, Any]) -> str:
    return str(
        entry.get("name") or unquote(urlsplit(str(entry.get("url") or entry.get("path"))).path.rpartition("/")[2])
    )


def _specific(file: str) -> tuple[bool, bool, bool, list[int]]:
    """Compiled for this very Python before the stable ABI before pure; then for the newest system, then the last build."""
    *_, python, abi, system = file.removesuffix(".whl").split("-")
    newest = max((int(n) for n in re.findall(r"(?:linux_2|macosx)_(\d+)", system)), default=0)
    return system != "any", abi.startswith("cp"), python.startswith("cp") and abi != "abi3", [newest]


def download(wheel: Wheel, target: Path, env: Mapping[str, str]) -> None:
    """Puts it there once its digest is right; goes on where an earlier try broke off. Raises IndexUnreachable."""
    part = target.with_name(f".{wheel.sha256}.part")
    trouble: Exception | None = None
    for _ in range(TRIES):
        try:
            _continue(wheel, part, env)
        except (IndexUnreachable, *BROKEN) as error:
            trouble = error
            continue
        if _sha256(part) == wheel.sha256:
            part.replace(target)
            return
        part.unlink(missing_ok=True)
        trouble = IndexUnreachable("it arrived damaged and was thrown away")
    raise IndexUnreachable(f"{wheel.file} could not be downloaded: {trouble}") from trouble


def _continue(wheel: Wheel, part: Path, env: Mapping[str, str]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= wheel.size:  # also where the index does not say how much there is
        have = 0
    with open_url(wheel.url, env, offset=have) as body:
        resumed = have and getattr(body, "status", 200) == 206
        with part.open("ab" if resumed else "wb") as file:
            while piece := body.read(1024 * 1024):
                file.write(piece)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        seen = hashlib.sha256()
        while piece := file.read(1024 * 1024):
            seen.update(piece)
    return seen.hexdigest()
