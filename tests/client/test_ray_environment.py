"""What a shell is told so that Ray's own tools speak to a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.client.ray.environment import Reached, _around_proxies, render_shell, unlike

ODD = "a 'b' \\ $(touch pwned) ; \"c\""


@pytest.fixture
def found() -> Reached:
    return Reached({"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_TOKEN_PATH": ODD}, "2.60.0", "3.11.7")


def test_a_shell_takes_values_as_they_are_and_forgets_a_token_that_would_win_over_the_file(found: Reached) -> None:
    script = f'{render_shell(found, "sh")}\nprintf %s "$RAY_AUTH_TOKEN_PATH"; printf %s "${{RAY_AUTH_TOKEN-none}}"'
    said = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "RAY_AUTH_TOKEN": "old"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == f"{ODD}none" and not Path("pwned").exists()
    assert "RAY_AUTH_TOKEN" not in found.whole({"RAY_AUTH_TOKEN": "old"})
    fish = render_shell(found, "fish").splitlines()
    assert "set -e RAY_AUTH_TOKEN;" in fish
    assert "set -gx RAY_AUTH_TOKEN_PATH 'a \\'b\\' \\\\ $(touch pwned) ; \"c\"';" in fish


def test_a_proxy_of_the_shell_is_none_for_this_machine() -> None:
    assert _around_proxies({"HOME": "/"}) == {}
    assert _around_proxies({"HTTP_PROXY": "http://p"})["no_proxy"] == "127.0.0.1"
    assert _around_proxies({"https_proxy": "http://p"}) == {}, "nothing of this is https"
    assert _around_proxies({"http_proxy": "http://p", "no_proxy": "lab,127.0.0.1"})["NO_PROXY"] == "lab,127.0.0.1"


def test_a_ray_that_does_not_fit_is_told_with_what_does(found: Reached, tmp_path: Path) -> None:
    assert "there is no `ray` on the PATH: pip install 'ray[default]==2.60.0' with Python 3.11" in unlike(
        found, "/nowhere"
    )
    fake, ray = tmp_path / "python", tmp_path / "ray"
    ray.write_text(f"#!{fake}\n")
    for said, told in (
        ("2.59.0 3.11.2", "is of Ray 2.59.0, and the cluster has 2.60.0"),
        ("2.60.0 3.12.1", "runs on Python 3.12.1, and the cluster on 3.11.7"),
        ("2.60.0 3.11.2", ""),
        ("nonsense", ""),
    ):
        fake.write_text(f"#!/bin/sh\necho {said}\n")
        for program in (fake, ray):
            program.chmod(0o700)
        text = unlike(found, str(tmp_path))
        assert told in text if told else text == ""
    ray.write_text(f"#!{sys.executable}\n")
    assert "2.60.0" in unlike(Reached({}, "1.0", "3.11"), str(tmp_path)), "the real one is asked"
