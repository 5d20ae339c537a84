"""Without a Ray that is new enough for tokens there is no engine, and the message says the way out."""

from __future__ import annotations

import subprocess
import sys

import pytest
from clusterctl_runtime.engine.environment import EngineUnavailable, check_version, find_environment, mint_token


def test_the_current_interpreter_is_the_engine_environment_by_default():
    found = find_environment()
    assert found.python == sys.executable
    assert found.version.startswith("2.")


def test_an_environment_without_ray_is_told_how_to_install_it(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with pytest.raises(EngineUnavailable, match=r"pip install 'clusterctl\[ray\]'.*engine: none"):
        find_environment(str(tmp_path / "bare" / "bin" / "python"))


def test_an_interpreter_that_does_not_run_is_named():
    with pytest.raises(EngineUnavailable, match="/nonexistent/python"):
        find_environment("/nonexistent/python")


@pytest.mark.parametrize("version", ["2.9.3", "2.51.1", "2.55.0"])
def test_a_ray_before_dependable_tokens_is_refused(version):
    with pytest.raises(EngineUnavailable, match=rf"Ray {version} .* is refused"):
        check_version(version, "python3")


@pytest.mark.parametrize("version", ["2.56.0", "2.60.0", "3.0.0.dev0"])
def test_newer_ones_are_taken(version):
    check_version(version, "python3")


def test_tokens_are_long_and_never_the_same():
    assert len({mint_token() for _ in range(100)}) == 100
    assert len(mint_token()) == 64
