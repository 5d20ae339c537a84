"""`clusterctl init --from`, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.kuberay.examples import samples


def test_the_command_writes_what_validate_and_plan_take(run, tmp_path: Path) -> None:
    (tmp_path / "ray.yaml").write_text(yaml.safe_dump(samples()["ray-service.sample.yaml"][0]))
    done = run("init", "out", "--from", "ray.yaml", "--provider", "local")
    assert (
        done.returncode == 0 and "ray.yaml:" in done.stderr and "next: clusterctl plan out/cluster.yaml" in done.stdout
    )
    assert (tmp_path / "out" / "serve.yaml").is_file()
    assert run("validate", "out/cluster.yaml").returncode == 0 and run("plan", "out/cluster.yaml").returncode == 0
    before = (tmp_path / "out" / "cluster.yaml").read_text()
    again = run("init", "out", "--from", "ray.yaml", "--provider", "local")
    assert again.returncode == 2 and "would be overwritten" in again.stderr
    assert (tmp_path / "out" / "cluster.yaml").read_text() == before
    answer = json.loads(run("init", "other", "--json", "--from", "ray.yaml", "--provider", "local").stdout)
    assert answer["kind"] == "a RayService of KubeRay" and answer["notes"][0]["line"] > 1
    missing = run("init", "third", "--from", "nowhere.yaml")
    assert (
        missing.returncode == 2
        and "nowhere.yaml cannot be read" in missing.stderr
        and not (tmp_path / "third").exists()
    )
