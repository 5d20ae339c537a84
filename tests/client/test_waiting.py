"""What `submit` says while its job waits."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.cli.call import Call
from clusterctl.cli.waiting import Reasons, wait_for_array
from clusterctl.client.head.api import Api
from clusterctl.client.submit.job_list import PAGE, list_jobs
from tests.support.stub_head import Asked, Stream, StubHead


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
        reasons.join(60)
    assert capsys.readouterr().err.splitlines() == [
        "waiting for 1 x CPU: no image (it is tried again in 600 s)",
        "waiting for 1 x CPU: launching (ready in about 7 s)",
    ]


def test_an_array_is_followed_by_its_figures_and_its_jobs_are_never_asked_for(
    stub: StubHead, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [{"queued": 99_998, "running": 2}, {"queued": 99_998, "running": 2}, {"failed": 1, "succeeded": 99_999}]
    stub.on("GET", "/api/v1/arrays/sweep/watch", Stream([{"id": "sweep", "counts": counts} for counts in told]))
    with Api.of(stub.cluster) as api:
        assert wait_for_array(Call(), api, "sweep") == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == ["array sweep: 99,998 queued, 2 running"]
    assert said.out.splitlines() == ["array sweep: 1 failed, 99,999 succeeded"]
    assert stub.paths() == ["GET /api/v1/arrays/sweep/watch"]


@pytest.mark.parametrize("limit, asked", [(10, [10]), (PAGE + 5, [PAGE, 5]), (10 * PAGE, [PAGE, PAGE, PAGE])])
def test_a_long_list_is_got_page_by_page(stub: StubHead, limit: int, asked: list[int]) -> None:
    """The head has two pages and a half."""
    limits: list[int] = []

    def page(request: Asked) -> tuple[int, dict[str, Any]]:
        limits.append(int(request.query["limit"]))
        first = int(request.query.get("before", 5 * PAGE // 2))
        numbers = list(range(first, 0, -1))[: limits[-1]]
        more = numbers[-1] - 1 if numbers[-1] > 1 else None
        return 200, {"jobs": [{"id": str(n)} for n in numbers], "counts": {"queued": 7}, "next": more}

    stub.on("GET", "/api/v1/jobs", page)
    with Api.of(stub.cluster) as api:
        document = list_jobs(api, limit, state="queued")
    assert limits == asked
    newest = 5 * PAGE // 2
    assert [int(job["id"]) for job in document["jobs"]] == list(range(newest, max(0, newest - limit), -1))
