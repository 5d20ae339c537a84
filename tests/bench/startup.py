"""How long the command line takes to answer, against Ray's own."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench.rows import Row, median_seconds, row
from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: bench
provider: local
pools:
  - {name: cpu, min: 1, max: 1, resources: {CPU: 2}}
"""
BIN = Path(sys.executable).parent


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up(timeout=180)
            return _measure(cluster)
        finally:
            cluster.clean_up()


def _measure(cluster: LocalCluster) -> list[Row]:
    ours, rays = str(BIN / "clusterctl"), str(BIN / "ray")
    env, ray_env = cluster.env, ray_environment(cluster)
    rows = [
        row(
            "--help",
            median_seconds([ours, "--help"], env=env),
            median_seconds([rays, "--help"], 3),
            "ray --help",
            "s",
            ">= 4x",
        ),
        row(
            "status",
            median_seconds([ours, "status"], env=env),
            median_seconds([rays, "status"], 3, ray_env),
            "ray status",
            "s",
            ">= 4x",
        ),
    ]
    program = ["--", "python", "-c", "print(1)"]
    submit = median_seconds([ours, "submit", *program], env=env)
    peer = median_seconds([rays, "job", "submit", "--address", ray_env["RAY_API"], *program], 2, ray_env)
    return [*rows, row("submit to its end", submit, peer, "ray job submit", "s", ">= 20x")]


def ray_environment(cluster: LocalCluster) -> dict[str, str]:
    """What Ray's own commands need to reach this cluster's engine."""
    address = wait_until(lambda: cluster.status()["engine"]["address"], 60)
    job = "import os, json; print('ENV=' + json.dumps({k: v for k, v in os.environ.items() if k.startswith('RAY_')}))"
    done = cluster.cli("submit", "--", "python", "-c", job)
    import json

    given = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("ENV="))[4:])
    token = Path(cluster.head_dir / "engine.token").read_text().strip()
    dashboard = _dashboard(cluster)
    return {
        **os.environ,
        **{k: v for k, v in given.items() if k not in ("RAY_JOB_CONFIG_JSON_ENV_VAR",)},
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_API": f"http://{dashboard}",
    }


def _dashboard(cluster: LocalCluster) -> str:
    """host:port of Ray's dashboard, from the arguments of its process."""
    command = next(p.cmdline() for p in cluster.processes() if "dashboard.py" in " ".join(p.cmdline()))
    port = next(part.split("=", 1)[1] for part in command if part.startswith("--port="))
    return f"127.0.0.1:{port}"
