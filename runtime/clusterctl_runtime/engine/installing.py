"""An engine environment on this machine: made once from wheels, used by every node and cluster that wants the same.

    ROOT/wheels/SHA256        wheels by their content, as the head has them too
    ROOT/uv-SHA256/uv         the installer, taken out of its own wheel
    ROOT/DIGEST/              an environment; its engine.json is there or the directory is not

Whole or not at all: it is made beside its place and moved there. What was interrupted is finished by whoever comes next:
wheels that arrived stay, one that came half-way is gone on with. Standard library only, for the bundle.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import replacing

AT_ONCE = 4  # wheels that are fetched at the same time
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 6, 0.5, 8.0  # of fetching one wheel; the pause doubles
DAMAGED_TRIES = 3
UNPACKED = 3.5  # bytes on disk for each byte of the wheels: 2.6 measured for ray[default], 3.1 once it has run
LOCK_LOOK = 0.1
UV_SECONDS = 900.0
TAIL = 1500  # characters of uv's output in the reason
MARKER = "engine.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
Fetch = Callable[[str, int], AsyncIterator[bytes]]


class InstallFailed(Exception):
    """The environment could not be made; the message is a sentence for the user."""


class Installation:
    """One environment, as the head describes it: {"digest", "ray", "extras", "packages", "python", "wheels": [{"file", "sha256",
    "size"}]}.

    `fetch(sha256, offset)` yields the wheel's bytes from there on and raises OSError to be asked again; None where all wheels
    are here. `tell` gets a line about how far it is, now and then.
    """

    def __init__(
        self,
        root: Path,
        wanted: dict[str, Any],
        fetch: Fetch | None,
        tell: Callable[[str], None],
        wheels: Path | None = None,
    ) -> None:
        _check(wanted)
        self._root, self._wanted, self._fetch, self._tell = root, wanted, fetch, tell
        self._store = wheels or root  # whose wheels and uv are used
        self._wheels: list[dict[str, Any]] = wanted["wheels"]
        self._place = root / wanted["digest"]
        self._shares = False
        self._name = f"Ray {wanted['ray']}"

    @property
    def python(self) -> Path:
        return self._place / "bin" / "python"

    @property
    def is_done(self) -> bool:
        """Whether it came to its end, and is still there."""
        return (self._place / MARKER).exists() and self.python.exists()

    async def share(self) -> str:
        """Packages only, for interpreters elsewhere that see this directory: its path, once it is there."""
        self._shares = True
        await self._ensure(lambda: (self._place / MARKER).exists(), self._make)
        return str(self._place)

    async def ensure(self) -> str:
        """The environment's interpreter, once it is there. Raises InstallFailed."""
        shared = Path(str(self._wanted.get("shared") or "/nowhere"))
        await self._ensure(lambda: self.is_done, self._make if not (shared / MARKER).exists() else self._borrow)
        return str(self.python)

    async def _ensure(self, is_done: Callable[[], bool], make: Callable[[], Awaitable[None]]) -> None:
        if is_done():
            return
        try:
            (self._store / "wheels").mkdir(mode=0o700, parents=True, exist_ok=True)
            async with _locked(self._root / f".{self._wanted['digest']}.lock", self._wait):
                if not is_done():
                    await make()
        except OSError as error:
            where = error.filename or self._root
            raise InstallFailed(f"{self._name} could not be installed: {error.strerror or error} ({where})") from error

    def _wait(self) -> None:
        self._tell(f"waiting for {self._name}, which another node on this machine installs")

    async def _make(self) -> None:
        began = time.monotonic()
        self._check_disk()
        await self._gather()
        self._tell(f"installing {self._name} (unpacking {len(self._wheels)} wheels)")
        loop = asyncio.get_running_loop()
        part = self._root / f".{self._wanted['digest']}.{os.getpid()}.part"
        for old in self._root.glob(f".{self._wanted['digest']}.*.part"):  # ours is the lock: nobody builds there now
            await loop.run_in_executor(None, lambda path=old: shutil.rmtree(path, ignore_errors=True))
        try:
            uv = await loop.run_in_executor(None, self._unpack_uv)
            await self._build(uv, part)
            facts = {k: self._wanted.get(k, []) for k in ("digest", "ray", "extras", "packages", "python")}
            note = {**facts, "seconds": round(time.monotonic() - began, 3)}
            (part / "env" / MARKER).write_text(json.dumps(note))
            if self._place.exists():  # without its marker or its interpreter
                shutil.rmtree(self._place)
            (part / "env").replace(self._place)
        finally:
            await loop.run_in_executor(None, lambda: shutil.rmtree(part, ignore_errors=True))

    def _check_disk(self) -> None:
        missing = sum(wheel["size"] for wheel in self._wheels if not self._path(wheel).exists())
        needed = int(missing + UNPACKED * sum(wheel["size"] for wheel in self._wheels))
        free = shutil.disk_usage(self._root).free
        if free < needed:
            raise InstallFailed(
                f"{self._name} was not installed: it needs {needed / 2**20:.0f} MiB of disk below {self._root}, which has "
                f"{free / 2**20:.0f} MiB left: free some there"
            )

    # ------------------------------------------------------------ wheels

    def _path(self, wheel: dict[str, Any]) -> Path:
        return self._store / "wheels" / wheel["sha256"]

    async def _gather(self) -> None:
        """Every wheel, whole and as its digest says."""
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
        here = 0

        async def get(wheel: dict[str, Any]) -> None:
            nonlocal here
            async with places:
                if not await loop.run_in_executor(None, self._is_whole, wheel):
                    await self._download(wheel)
                here += 1
                self._tell(f"installing {self._name} ({here} of {len(self._wheels)} wheels)")

        largest_first = sorted(self._wheels, key=lambda wheel: -wheel["size"])
        tasks = [asyncio.ensure_future(get(wheel)) for wheel in largest_first]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_whole(self, wheel: dict[str, Any]) -> bool:
        """A kept one is read again: a disk may have lost the end of what was written before a power cut."""
        path = self._path(wheel)
        try:
            if path.stat().st_size == wheel["size"] and _sha256(path) == wheel["sha256"]:
                return True
        except FileNotFoundError:
            return False
        path.unlink(missing_ok=True)
        return False

    async def _download(self, wheel: dict[str, Any]) -> None:
        trouble, pauses, damaged = "it is not on this machine", Backoff(FIRST_PAUSE, LONGEST_PAUSE), 0
        for left in reversed(range(TRIES if self._fetch else 0)):
            try:
                await self._continue(wheel)
                return
            except _Damaged as error:
                trouble, damaged = str(error), damaged + 1
                if damaged == DAMAGED_TRIES:
                    break
                continue
            except OSError as error:
                if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
                    raise  # of the disk
                trouble = str(error)
            if left:
                await asyncio.sleep(pauses.next())
        raise InstallFailed(
            f"{self._name} was not installed: {wheel['file']} could not be fetched from the head ({trouble})"
        )

    async def _continue(self, wheel: dict[str, Any]) -> None:
        """The rest of one wheel; what came before a connection broke is kept."""
        assert self._fetch is not None
        path = self._path(wheel)
        part = path.with_name(f"{path.name}.part")
        with part.open("ab") as file:
            if file.tell() > wheel["size"]:
                file.truncate(0)
            async for piece in self._fetch(wheel["sha256"], file.tell()):
                file.write(piece)
                if file.tell() > wheel["size"]:
                    break
        loop = asyncio.get_running_loop()
        if part.stat().st_size != wheel["size"] or await loop.run_in_executor(None, _sha256, part) != wheel["sha256"]:
            part.unlink()
            raise _Damaged("it arrived damaged and was thrown away")
        part.replace(path)

    # ------------------------------------------------------------ making it

    def _unpack_uv(self) -> Path:
        """uv's own wheel has it as a file: no pip is needed."""
        wheel = next((wheel for wheel in self._wheels if wheel["file"].startswith("uv-")), None)
        if wheel is None:
            raise InstallFailed(f"{self._name} was not installed: uv is not among its wheels")
        return unpack_uv(self._path(wheel), self._store / f"uv-{wheel['sha256'][:16]}")

    async def _build(self, uv: Path, part: Path) -> None:
        """`part/env`, from the wheels alone. Relocatable, since it is moved when it is done."""
        (part / "wheels").mkdir(mode=0o700, parents=True)
        for wheel in self._wheels:
            (part / "wheels" / wheel["file"]).symlink_to(self._path(wheel))
        environment = part / "env"
        if self._shares:  # nobody can write there later: compiled now
            target = ["--python", _interpreter(), "--target", str(environment / "site"), "--compile-bytecode"]
        else:
            target = ["--python", str(environment / "bin" / "python")]
            await self._run([
                str(uv), "venv", "--quiet", "--relocatable", "--no-config", "--no-project", "--no-python-downloads",
                "--python", _interpreter(), str(environment),
            ], part)  # fmt: skip
        await self._run([
            str(uv), "pip", "install", "--quiet", "--no-config", "--offline", "--no-index", "--no-deps",
            "--cache-dir", str(part / "cache"), *target,
            *(str(part / "wheels" / wheel["file"]) for wheel in self._wheels if not wheel["file"].startswith("uv-")),
        ], part)  # fmt: skip

    async def _borrow(self) -> None:
        """An environment of this interpreter whose packages are those of a directory that somebody else filled."""
        site = Path(self._wanted["shared"]) / "site"
        self._place.mkdir(mode=0o755, exist_ok=True)
        programs = self._place / "bin"
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = self._place / "lib" / version / "site-packages"
        for directory in (programs, packages):
            directory.mkdir(parents=True, exist_ok=True)
        interpreter = Path(_interpreter())
        for name in ("python", "python3", version):
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to(interpreter)
        for path in (site / "bin").iterdir():
            first, _, rest = path.read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"python" in first:  # entry points of the packages
                (programs / path.name).write_bytes(b"#!" + os.fsencode(programs / "python") + b"\n" + rest)
                (programs / path.name).chmod(0o755)
        (packages / "engine.pth").write_text(f"{site}\n")
        home = f"home = {interpreter.parent}\ninclude-system-site-packages = false\n"
        (self._place / "pyvenv.cfg").write_text(home)
        shutil.copyfile(Path(self._wanted["shared"]) / MARKER, self._place / MARKER)

    async def _run(self, argv: list[str], directory: Path) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_"))}
        process = await asyncio.create_subprocess_exec(
            *argv, env={**env, "TMPDIR": str(directory)}, cwd=directory, umask=0o022 if self._shares else -1,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), UV_SECONDS)
        except asyncio.TimeoutError:
            raise InstallFailed(f"{self._name} was not installed: uv did not end within {UV_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = output.decode(errors="replace").strip()[-TAIL:]
            raise InstallFailed(f"{self._name} was not installed: uv ended with exit code {process.returncode}\n{said}")


def _interpreter() -> str:
    """The program itself: an environment made from a link elsewhere would look for the standard library beside the link."""
    return os.path.realpath(sys.executable)


class _Damaged(Exception):
    pass


def unpack_uv(wheel: Path, directory: Path) -> Path:
    """The program `uv` out of its wheel, in `directory`."""
    path = directory / "uv"
    if not path.exists():
        directory.mkdir(mode=0o700, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            with archive.open(name) as source, replacing(path, mode=0o700) as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
    return path


def _check(wanted: dict[str, Any]) -> None:
    """Names become paths: only such that stay where they belong."""
    if not _DIGEST.fullmatch(wanted["digest"]):
        raise InstallFailed(f"{wanted['digest']!r} is not the digest of an environment")
    for wheel in wanted["wheels"]:
        if not _DIGEST.fullmatch(wheel["sha256"]) or not _FILE.fullmatch(wheel["file"]):
            raise InstallFailed(f"{wheel['file']!r} with digest {wheel['sha256']!r} is not a wheel")


@contextlib.asynccontextmanager
async def _locked(path: Path, waits: Callable[[], None]) -> AsyncIterator[None]:
    """One builder for each environment on this machine; the lock ends with its process, however that ends."""
    lock, told = None, False
    while lock is None:
        try:
            lock = take(path)
        except LockHeld:
            if not told:
                waits()
                told = True
            await asyncio.sleep(LOCK_LOOK)
    with lock:
        yield


def _sha256(path: Path) -> str:
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1024 * 1024):
            seen.update(piece)
    return seen.hexdigest()
