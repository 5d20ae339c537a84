"""What a login has for its programs counts after a reboot as well, when cron starts the keeper."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clusterctl_runtime.agent.host import keeper as keep


def test_after_a_reboot_programs_have_the_environment_of_the_login_that_installed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started_with(environment: dict[str, str]) -> dict[str, str]:
        monkeypatch.setattr(keep.os, "environ", dict(environment))
        keep._take_environment(tmp_path / "environment.json")
        return dict(keep.os.environ)

    login = {"PATH": "/opt/cuda/bin:/usr/bin", "https_proxy": "http://p:1", "HOME": "/home/u", "TOKEN": "secret"}
    started_with({**login, "SSH_CONNECTION": "a b c d"})
    after = started_with({"PATH": "/usr/bin:/bin", "HOME": "/home/u", "http_proxy": "http://other", "LANG": "C"})
    assert after == {"PATH": "/opt/cuda/bin:/usr/bin", "https_proxy": "http://p:1", "HOME": "/home/u", "LANG": "C"}
    assert "secret" not in (tmp_path / "environment.json").read_text()
    assert os.environ is not after
