"""What Google's provider costs whoever does not call Google: nothing of its libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.spec.init import write_starter

LIBRARIES = ("google.auth", "google.oauth2", "requests", "urllib3", "googleapiclient")
AFTERWARDS = "\nimport sys\nprint('loaded:', *(name for name in {names!r} if name in sys.modules))"
COMMAND = """\
import sys
sys.argv = ["clusterctl", *{arguments!r}]
from clusterctl.cli.main import run
try:
    run()
except SystemExit as ended:
    assert ended.code in (0, None), ended.code
"""
MADE = """\
import os
from clusterctl_providers import make_provider
from clusterctl_providers.base import ProviderContext
from clusterctl.core.errors import AuthFailed
os.environ["NO_GCE_CHECK"] = "true"
settings = {"project": "p-12345", "region": "us-central1"}
provider = make_provider("azure", ProviderContext("demo", "0" * 32, "state", settings))
"""


def loaded_by(program: str, home: Path) -> list[str]:
    """Which of the libraries are loaded when the program has come to its end."""
    done = subprocess.run(
        [sys.executable, "-c", program + AFTERWARDS.format(names=LIBRARIES)], capture_output=True, text=True, timeout=120,
        cwd=home, env={"CLUSTERCTL_HOME": str(home / "home"), "PATH": "/usr/bin:/bin", "HOME": str(home)},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "cluster.yaml"],
        ["offers", "--provider", "azure", "--region", "us-central1", "--gpu", "T4"],
        ["init", "--provider", "gcp-gpu", "elsewhere"],
        ["simulate", "cluster.yaml"],
        ["gc", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_calls_no_cloud_loads_none_of_it(arguments: list[str], tmp_path: Path) -> None:
    write_starter("azure", tmp_path)
    assert loaded_by(COMMAND.format(arguments=arguments), tmp_path) == []


def test_a_head_loads_it_with_its_first_call_and_not_before_it_listens(tmp_path: Path) -> None:
    """Its provider is made on the way to its sockets; the first look, which is in a thread, is made when they are open."""
    assert loaded_by(MADE + "provider.agent_endpoint()", tmp_path) == []


def test_the_first_call_loads_them(tmp_path: Path) -> None:
    """Else the tests above would see nothing because they look for the wrong names."""
    called = "try:\n    provider.list()\nexcept AuthFailed:\n    pass"
    assert {"google.auth", "requests"} <= set(loaded_by(MADE + called, tmp_path))
