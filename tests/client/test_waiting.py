"""What `submit` says while its job waits."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from clusterctl.cli.call import Call
from clusterctl.cli.render.arrays import ArrayProgress
from clusterctl.cli.waiting import Reasons, wait_for_array
from clusterctl.client.head.api import Api
from clusterctl.client.submit.choosing import Which, chosen
from clusterctl.client.submit.job_list import PAGE, list_jobs
from clusterctl.core.errors import UsageError
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


def arrays(stub: StubHead, *told: dict[str, int]) -> None:
    stub.on("GET", "/api/v1/arrays/sweep/watch", Stream([{"id": "sweep", "counts": counts} for counts in told]))


def test_an_array_is_followed_by_its_figures_and_some_of_its_failures_are_shown(
    stub: StubHead, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"queued": 99_998, "running": 2}
    arrays(stub, figures, figures, {"queued": 5, "succeeded": 99_995}, {"failed": 7, "succeeded": 99_993})
    jobs = [{"id": f"sweep.{n}", "reason": f"exit code {n}"} for n in (5, 4, 3, 2, 1)]
    stub.on("GET", "/api/v1/jobs", (200, {"jobs": jobs, "counts": {}, "next": 17}))
    for number in range(1, 6):
        output = "".join(f"line {line}\x1b[31m\n" for line in range(number * 2))
        piece = {"attempt": 1, "rank": 0, "offset": 0, "next": len(output), "data": output}
        stub.on("GET", f"/api/v1/jobs/sweep.{number}/logs", Stream([piece, {"end": True, "state": "failed"}]))
    stub.on("GET", "/api/v1/jobs/sweep.3/logs", (404, {"error": {"message": "it is forgotten"}}))
    with Api.of(stub.cluster) as api:
        assert wait_for_array(Call(), api, "sweep") == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == ["array sweep: 7 failed, 99,993 succeeded"]
    lines = said.err.splitlines()
    assert lines[0] == "array sweep: 0 of 100,000 ended: 99,998 queued, 2 running"  # and none 10 ms later
    assert lines[1:4] == ["job sweep.1 failed: exit code 1", "  | line 0\x1b[31m", "  | line 1\x1b[31m"]
    assert lines[9:11] == ["job sweep.3 failed: exit code 3", "job sweep.4 failed: exit code 4"]
    assert lines[-2:] == [
        "  | line 4\x1b[31m",
        "2 more failed: `clusterctl jobs --array sweep --state failed` lists them",
    ]
    (asked,) = [asked for asked in stub.asked if asked.path == "/api/v1/jobs"]
    assert asked.query == {"limit": "5", "state": "failed", "array": "sweep"}


def test_a_quiet_array_says_only_how_it_ended(stub: StubHead, capsys: pytest.CaptureFixture[str]) -> None:
    arrays(stub, {"running": 2}, {"failed": 2})
    with Api.of(stub.cluster) as api:
        assert wait_for_array(Call(quiet=True), api, "sweep") == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("array sweep: 2 failed\n", "") and stub.paths() == [
        "GET /api/v1/arrays/sweep/watch"
    ]


def test_on_a_terminal_an_array_has_one_line_that_goes_when_it_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    progress = ArrayProgress("sweep", quiet=False)
    for counts in ({"queued": 10}, {"queued": 10}, {"queued": 7, "running": 2, "failed": 1}):
        progress.show(counts)
    progress.end()
    assert capsys.readouterr().err.split("\r\x1b[K") == [
        "",
        "array sweep: 0 of 10 ended: 10 queued",
        "array sweep: 1 of 10 ended: 7 queued, 2",
        "",
    ]


JOBS = [
    {"id": "j-1", "name": "train", "state": "running", "submitted": 3.0},
    {"id": "j-2", "name": "train", "state": "queued", "submitted": 1.0},
    {"id": "j-3", "name": "training", "state": "queued", "submitted": 2.0},
    {"id": "j-4", "name": "train", "state": "failed", "submitted": 4.0},
    {"id": "j-5", "name": "train", "state": "queued", "submitted": 5.0, "service": {"name": "web"}},
]


@pytest.mark.parametrize(
    ("which", "ids"),
    [
        (Which(all=True), ["j-2", "j-3", "j-1"]),
        (Which(state="queued"), ["j-2", "j-3"]),
        (Which(name="train"), ["j-2", "j-1"]),
        (Which(state="queued", name="train"), ["j-2"]),
        (Which(name="nobody"), []),
    ],
)
def test_jobs_are_chosen_by_state_and_name_and_those_of_services_are_left_alone(
    stub: StubHead, which: Which, ids: list[str]
) -> None:
    def page(asked: Asked) -> tuple[int, dict[str, Any]]:
        return 200, {"jobs": [job for job in JOBS if job["state"] == asked.query["state"]], "next": None}

    stub.on("GET", "/api/v1/jobs", page)
    with Api.of(stub.cluster) as api:
        assert [job["id"] for job in chosen(api, which, ("running", "queued"))] == ids


def test_a_choice_says_one_thing_that_fits(stub: StubHead) -> None:
    for which in (Which(), Which(["j-1"], all=True), Which(["j-1"], name="x")):
        with pytest.raises(UsageError):
            which.check()
    with (
        Api.of(stub.cluster) as api,
        pytest.raises(UsageError, match="--state failed: here it is one of running, queued"),
    ):
        chosen(api, Which(state="failed"), ("running", "queued"))


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
