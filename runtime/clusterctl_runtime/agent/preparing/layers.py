"""A job's own packages: an environment on top of the interpreter that its programs have on this node anyway.

    ROOT/DIGEST/            an environment; its layer.json is there or it is not one

What the interpreter below has is seen in it, and is not installed again. Made once for the same lines and the same interpreter.
What was interrupted is made anew: the marker is written last. One is made at a time, since each of them may fill the network and
the disk. Those that were used last stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clusterctl_runtime.agent.preparing.packages import PackageError, PackageMissed
from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.files.private import write_private

KEPT = 8  # environments that nobody uses
INSTALL_SECONDS = 1800.0
TAIL = 1500  # characters of the installer's words in a reason
MARKER = "layer.json"
# What an environment made by venv does not see: the packages of the environment that its interpreter is of.
_ASK = "import json, sys, sysconfig; print(json.dumps([sys.version, sys.prefix, sysconfig.get_path('purelib')]))"


class Layers:
    """`root` is this node's. Used in one loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._one = asyncio.Lock()
        self._used: Counter[str] = Counter()  # by running tasks

    @contextlib.contextmanager
    def _using(self, name: str) -> Iterator[None]:
        self._used[name] += 1
        try:
            yield
        except BaseException:
            self._used[name] -= 1
            raise

    async def hold(self, lines: Sequence[str], python: str, env: Mapping[str, str]) -> Path:
        """The environment's directory, which stays until `release`. `env` is the task's: it says which index is asked. Raises
        PackageError with the installer's words, PackageMissed where another node may do better."""
        base = await self._run([python, "-I", "-c", _ASK], env, f"{python} does not run")
        name = hashlib.sha256(json.dumps([os.path.realpath(python), base, sorted(lines)]).encode()).hexdigest()[:32]
        place = self._root / name
        with self._using(name):
            async with self._one:
                try:
                    if not (place / MARKER).exists():
                        await self._make(place, lines, python, json.loads(base)[2], env)
                    os.utime(place)
                    await self._forget_some()
                except OSError as error:
                    where = error.filename or place
                    raise PackageMissed(
                        f"the job's requirements cannot be installed ({error.strerror}: {where})"
                    ) from error
        return place

    def release(self, place: Path) -> None:
        """Nobody runs in it on behalf of that `hold` any more."""
        self._used[place.name] -= 1

    async def _make(self, place: Path, lines: Sequence[str], python: str, site: str, env: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, remove_tree, place)
        place.mkdir(mode=0o700, parents=True)
        venv = [python, "-I", "-m", "venv", "--system-site-packages", "--without-pip", str(place)]
        await self._run(venv, env, f"{python} makes no environments")
        (own,) = place.glob("lib/python*/site-packages")
        (own / "base.pth").write_text(f"import site; site.addsitedir({site!r})\n")
        file = place / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        pip = [
            str(place / "bin" / "python"),
            "-I",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
        ]  # of the base
        install = ["install", "--quiet", "--no-warn-script-location", "--progress-bar", "off", "-r", str(file)]
        await self._run([*pip, *install], env, "pip cannot install them")
        write_private(place / MARKER, json.dumps({"python": python, "requirements": list(lines)}))

    async def _run(self, argv: list[str], env: Mapping[str, str], trouble: str) -> str:
        """What it printed. It and all that it started end with this, however that ends."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=dict(env), start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise PackageError(f"the job's requirements were not installed: {trouble} ({error.strerror})") from error
        try:
            output, _ = await asyncio.wait_for(process.communicate(), INSTALL_SECONDS)
        except asyncio.TimeoutError:
            raise PackageError(
                f"the job's requirements were not installed: {argv[0]} did not end within {INSTALL_SECONDS / 60:.0f} min"
            ) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        said = output.decode(errors="replace").strip()
        if process.returncode and said.endswith("No module named pip"):
            trouble = "the Python of this node has no pip: install it by `setup` (`apt-get install -y python3-pip`) or the image"
        if process.returncode:
            raise PackageError(f"the job's requirements were not installed: {trouble}\n{said[-TAIL:]}")
        return said

    async def _forget_some(self) -> None:
        """The ones of which nothing was heard for longest go, but none in which something runs."""
        idle = [path for path in self._root.iterdir() if self._used[path.name] < 1]
        idle.sort(key=lambda path: path.stat().st_mtime)
        for path in idle[: max(0, len(idle) - KEPT)]:
            (path / MARKER).unlink(missing_ok=True)
            await asyncio.get_running_loop().run_in_executor(None, remove_tree, path)


def inside(place: Path, python: str, argv: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Program and variables of a task in that environment: its programs are found first, and `python` is its interpreter."""
    programs = place / "bin"
    first = str(programs / "python") if argv[0] == python else argv[0]
    path = os.pathsep.join(filter(None, [str(programs), env.get("PATH", "")]))
    return [first, *argv[1:]], {**env, "PATH": path, "VIRTUAL_ENV": str(place)}
