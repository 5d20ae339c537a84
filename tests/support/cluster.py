"""A real cluster of the local provider for tests: driven through the command line, and gone afterwards."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from clusterctl.client.head import tunnels
from clusterctl.client.registry import Registry
from tests.support.looker import WHOLE_STATUS, Looker

T = TypeVar("T")


@functools.cache
def _cache() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="clusterctl-cache-")


def with_packages(home: Path) -> Path:
    """`home`, as one has it that has made a cluster before: the packages that its heads need are made once per test process."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "cache").symlink_to(_cache().name)
    return home


def wait_until(condition: Callable[[], T], seconds: float = 120.0, what: str = "") -> T:
    """The first true value of `condition`; fails with `what` after `seconds`: many times what an idle machine needs."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.05)


class LocalCluster:
    """One cluster in a home of its own. `spec` is the text of its cluster.yaml."""

    def __init__(self, directory: Path, spec: str, name: str = "demo") -> None:
        self.directory = directory
        self.name = name
        self.home = directory / "home"
        self.spec = directory / "cluster.yaml"
        self.spec.write_text(spec)
        self.env = {**os.environ, "CLUSTERCTL_HOME": str(self.home), "NO_COLOR": "1", "RAY_DEDUP_LOGS": "0"}
        self.env.pop("CLUSTERCTL_CLUSTER", None)
        self._looker: Looker | None = None

    # ------------------------------------------------------------ the command line

    def start(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "clusterctl", *args]
        return subprocess.Popen(
            command, env=self.env, cwd=self.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
        )

    def kill_when(self, line: str, *args: str) -> None:
        """Runs one command, and ends it and all that it started as soon as it says `line` on stderr."""
        process = self.start(*args, start_new_session=True)
        assert process.stderr is not None
        for said in process.stderr:
            if line in said:
                os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it never said {line!r}"

    def cli(self, *args: str, code: int | None = 0, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs one command; `code` is the exit code it must have (None: any)."""
        command = [sys.executable, "-m", "clusterctl", *args]
        done = subprocess.run(
            command,
            env=self.env,
            cwd=self.directory,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if code is not None:
            assert done.returncode == code, (
                f"{args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}\n{self.head_log()}"
            )
        return done

    def json(self, *args: str) -> Any:
        cut = args.index("--") if "--" in args else len(args)  # what follows belongs to the job's program
        return json.loads(self.cli(*args[:cut], "--json", *args[cut:]).stdout)

    def up(self, timeout: float = 300) -> None:
        self.cli("up", str(self.spec), "-y", timeout=timeout)

    def stop_tunnel(self) -> None:
        """The one to a head on another machine; the next command digs another."""
        tunnels.stop(Registry(self.home).load(self.name))

    # ------------------------------------------------------------ looking

    @property
    def head_dir(self) -> Path:
        return self.home / "clusters" / self.name / "head"

    def head_log(self, size: int = 3000) -> str:
        path = self.head_dir / "head.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else "(no head.log)"

    def head_pid(self) -> int:
        return int(json.loads((self.head_dir / "head.json").read_text())["pid"])

    def look(self, path: str) -> Any:
        """What the head's API answers to a GET, as the command line would ask it."""
        if self._looker is None or self._looker.env != self.env:
            self.end_looks()
            self._looker = Looker(self.env)
        return self._looker.get(self.name, path)

    def end_looks(self) -> None:
        if self._looker is not None:
            self._looker.close()
            self._looker = None

    def status(self) -> dict[str, Any]:
        """As `clusterctl status --json` has it."""
        return self.look(WHOLE_STATUS)

    def job(self, job_id: str) -> dict[str, Any]:
        """As `clusterctl job show --json` has it."""
        return self.look(f"/api/v1/jobs/{job_id}")

    def wait_job(self, job_id: str, state: str, seconds: float = 120.0) -> dict[str, Any]:
        """The job once it is in `state`; fails at once when it ended in another one."""

        def reached() -> dict[str, Any] | None:
            job = self.job(job_id)
            final = job["state"] in ("succeeded", "failed", "cancelled")
            assert not (final and job["state"] != state), (
                f"{job_id} is {job['state']}: {job['reason']}\n{self.head_log()}"
            )
            return job if job["state"] == state else None

        return wait_until(reached, seconds, f"job {job_id} {state}")

    def submit(self, *args: str) -> str:
        return json.loads(self.cli("submit", "-d", "--json", *args).stdout)["id"]

    def ready_nodes(self, pool: str = "") -> list[dict[str, Any]]:
        nodes = self.status()["nodes"]
        return [n for n in nodes if n["state"] == "ready" and (n["pool"] == pool if pool else n["pool"] != "head")]

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this cluster, found by the home in its environment."""
        marker = str(self.home)
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.pid != os.getpid() and process.environ().get("CLUSTERCTL_HOME") == marker
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    # ------------------------------------------------------------ the end

    def down(self) -> None:
        self.cli("down", self.name, "-y")

    def clean_up(self) -> None:
        """Whatever the test did: afterwards nothing of it runs."""
        self.end_looks()
        self.cli("down", self.name, "-y", code=None)
        for process in self.processes():
            process.kill()
        psutil.wait_procs(self.processes(), timeout=60)
