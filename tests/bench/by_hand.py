"""Ray as a person starts it with `ray start`: a head without CPUs and one worker, each in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.cluster import wait_until

RAY = str(Path(sys.executable).parent / "ray")
PORT = 26379


@contextlib.contextmanager
def ray_by_hand() -> Iterator[tuple[dict[str, str], float]]:
    """The environment of its drivers, and how many seconds the worker took from its `ray start` to a node of the cluster."""
    base = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))  # unix sockets allow short paths only
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    processes = [
        _start(
            env,
            "--head",
            f"--port={PORT}",
            "--num-cpus=0",
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            f"--temp-dir={base}/h",
            "--no-monitor",
        )
    ]
    try:
        env["RAY_ADDRESS"] = f"127.0.0.1:{PORT}"
        wait_until(lambda: _nodes(env) == 1, 90, "ray's head")
        began = time.perf_counter()
        worker = ["--num-cpus=1", f"--temp-dir={base}/w", "--node-ip-address=127.0.0.12"]
        processes.append(_start(env, f"--address=127.0.0.1:{PORT}", *worker))
        wait_until(lambda: _nodes(env) == 2, 90, "ray's worker")
        yield env, time.perf_counter() - began
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
        shutil.rmtree(base, ignore_errors=True)


def _start(env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    command = [RAY, "start", "--block", "--disable-usage-stats", *arguments]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _nodes(env: dict[str, str]) -> int:
    """Live nodes by Ray's GCS, asked without starting a driver."""
    code = (
        "from ray._raylet import GcsClient; import json;"
        f"c = GcsClient(address='127.0.0.1:{PORT}');"
        "print(sum(n.state == 0 for n in c.get_all_node_info().values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return int(done.stdout.strip() or 0) if done.returncode == 0 else 0
