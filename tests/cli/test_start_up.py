from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from clusterctl.client.registry import Registry
from tests.support.stub_head import Stream, StubHead

# Each of these costs more to import than `status` as a whole may take, or has no place on a user's machine.
# (pydantic itself is not among them: recent versions of typer read their parameters with it.)
HEAVY = [
    "boto3",
    "azure",
    "clusterctl.provision",
    "clusterctl.spec.model",
    "docker",
    "fastapi",
    "google.auth",
    "google.cloud",
    "googleapiclient",
    "httpx",
    "jinja2",
    "paramiko",
    "pathspec",
    "ray",
    "requests",
    "rich.live",
    "websockets",
    "yaml",
]

PROGRAM = """
import json, sys
sys.argv = ["clusterctl", *sys.argv[1:]]
from clusterctl.cli.main import run
try:
    run()
except SystemExit as ended:
    code = ended.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def modules_of(home: Path, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env={"CLUSTERCTL_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=home,
    )  # fmt: skip
    said = json.loads(done.stderr.strip().splitlines()[-1])
    assert said["code"] in (0, None), done.stderr
    return set(said["modules"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("status",),
        ("status", "--help"),
        ("jobs",),
        ("submit", "-d", "--", "true"),
        ("submit", "--", "true"),
    ],
    ids=" ".join,
)
def test_what_is_used_most_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    stub = StubHead(Registry(tmp_path, {}))
    stub.on(
        "GET",
        "/api/v1/status",
        (200, {"cluster": "demo", "uid": "0" * 8, "state": "ready", "nodes": [], "node_counts": {}}),
    )
    stub.on("GET", "/api/v1/jobs", (200, {"jobs": []}))
    stub.on("POST", "/api/v1/jobs", lambda asked: (201, {"id": asked.json()["submission_id"], "state": "queued"}))
    stub._answers = Answers(stub._answers)
    stub.start()
    try:
        loaded = modules_of(tmp_path, *arguments)
    finally:
        stub.stop()
    assert not [name for name in HEAVY if name in loaded]


class Answers(dict):
    """Every job's log ends at once."""

    def get(self, key, default=None):
        if key[1].endswith("/logs"):
            return Stream([{"end": True, "state": "succeeded", "exit_code": 0}])
        return super().get(key, default)


def test_help_imports_no_verb(tmp_path: Path) -> None:
    loaded = modules_of(tmp_path, "--help")
    ours = {name for name in loaded if name.startswith("clusterctl.cli.")}
    assert ours <= {
        "clusterctl.cli.main",
        "clusterctl.cli.call",
        "clusterctl.cli.completing",
        "clusterctl.cli.start",
        "clusterctl.cli.output",
        "clusterctl.cli.render",
        "clusterctl.cli.render.escape",
    }
    assert not {"http.client", "ssl"} & loaded


WITHOUT = """
import sys
sys.modules["paramiko"] = None
sys.argv = ["clusterctl", *sys.argv[1:]]
from clusterctl.cli.main import run
run()
"""


def test_a_library_that_is_not_installed_is_told_with_what_brings_it(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(
        "cluster: demo\nprovider: {aws: {region: us-east-1}}\nengine: none\npools: [{name: cpu, max: 1, instances: [t3.micro]}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "up", str(spec), "-y"],
        env={"CLUSTERCTL_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "'paramiko', which is not installed: pip install 'clusterctl[ssh]'" in done.stderr


def test_what_a_provider_needs_comes_with_its_extra() -> None:
    """A head on an instance is logged in to by SSH."""
    needed = [text for text in metadata.requires("clusterctl") or [] if "extra == 'aws'" in text.replace('"', "'")]
    assert {text.partition(">")[0].strip() for text in needed} == {"boto3", "paramiko"}
