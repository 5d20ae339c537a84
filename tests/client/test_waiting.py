"""What `submit` says while its job waits."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.cli.call import Call
from clusterctl.cli.waiting import Reasons
from clusterctl.client.api import Api
from tests.support.stub_head import Stream, StubHead


def queued(text: str, fix: str) -> dict[str, Any]:
    return {"id": "a", "state": "queued", "wait": {"text": text, "fix": fix}}


def test_a_reason_is_said_once_however_its_countdown_runs(stub: StubHead, capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        queued("waiting for 1 x CPU: no image", "it is tried again in 600 s"),
        queued("waiting for 1 x CPU: no image", "it is tried again in 590 s"),
        queued("waiting for 1 x CPU: launching", "ready in about 7 s"),
        queued("waiting for 1 x CPU: launching", "ready in about 6.5 s"),
        {"id": "a", "state": "running", "wait": None},
    ]
    stub.on("GET", "/api/v1/jobs/a/watch", Stream(told))
    with Api.of(stub.cluster) as api:
        reasons = Reasons(Call(), api, "a")
        reasons.start()
        reasons.join(10)
    assert capsys.readouterr().err.splitlines() == [
        "waiting for 1 x CPU: no image (it is tried again in 600 s)",
        "waiting for 1 x CPU: launching (ready in about 7 s)",
    ]
