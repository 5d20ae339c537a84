"""A host that waits for its head for weeks does not fill its disk with what it says about that."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest
from clusterctl_runtime.agent import link
from clusterctl_runtime.agent.host import keeper as keep
from clusterctl_runtime.agent.host.keeper import Keeper
from clusterctl_runtime.agent.link import Link
from clusterctl_runtime.agent.repeats import LONGEST_SECONDS, MOST_TEXTS, Repeats
from clusterctl_runtime.wire import Bootstrap

from clusterctl.provision.certs import ensure_certificates

DAY = 86400


def said_in(seconds: int, texts: list[str]) -> list[str]:
    """What is written when one of `texts` in turn is the case at each second."""
    now = 0.0
    repeats = Repeats(lambda: now)
    lines = []
    for second in range(seconds):
        now = float(second)
        lines.append(repeats.line(texts[second % len(texts)]))
    return [line for line in lines if line is not None]


def test_a_failure_each_second_for_a_week_is_some_lines_a_day_and_none_is_uncounted() -> None:
    lines = said_in(7 * DAY, ["no connection"])
    assert lines[0] == "no connection" and len(lines) < 7 * DAY / LONGEST_SECONDS + 15
    more = [int(line.split("(")[1].split()[0]) for line in lines[1:]]
    assert more == sorted(more)
    assert 7 * DAY - LONGEST_SECONDS <= len(lines) + sum(more) <= 7 * DAY


def test_reasons_that_take_turns_are_not_news_each_time() -> None:
    one, two = "no connection: refused", "no connection: timed out"
    lines = said_in(DAY, [one, two])
    assert lines[:2] == [one, two] and len(lines) < 2 * (DAY / LONGEST_SECONDS + 15)


def test_reasons_without_number_share_one_pause() -> None:
    assert len(said_in(DAY, [f"reason {n}" for n in range(1000)])) < (MOST_TEXTS + 1) * (DAY / LONGEST_SECONDS + 15)


def test_what_happens_after_it_was_well_for_a_while_is_said_at_once() -> None:
    repeats = Repeats(lambda: 0.0)
    assert [repeats.line("x"), repeats.line("x")] == ["x", None]
    repeats.forget()
    assert repeats.line("x") == "x"


def test_hundreds_of_dials_in_vain_are_a_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(link, "LONGEST_PAUSE", 0.0)
    ca = ensure_certificates(tmp_path, "uid")
    papers = Bootstrap("c", "uid", "n-1", 1, ["127.0.0.1:1", "127.0.0.1:2"], ca, "token")
    dials: list[str] = []
    done = asyncio.Event()

    async def dial(head: str = "") -> link.Stream:
        dials.append(head)
        if len(dials) >= 400:
            done.set()
        raise ConnectionRefusedError(111, "refused")

    async def run() -> None:
        linked = Link(papers, None)  # type: ignore[arg-type]  nobody is ever greeted
        monkeypatch.setattr(linked, "dial", dial)
        running = asyncio.ensure_future(linked.run())
        await asyncio.wait_for(done.wait(), 60)
        running.cancel()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert len(dials) >= 400
    assert 2 <= len([record for record in caplog.records if "no connection" in record.message]) <= 20


def test_the_files_of_programs_that_run_for_months_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "LOG_BYTES", 1000)
    (tmp_path / "keep.json").write_text(json.dumps({"run": {"standby": ["true"]}}))
    keeper = Keeper(tmp_path)
    keeper._load()
    for name in ("standby", "keep"):
        path = tmp_path / f"{name}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in range(100):
            os.write(descriptor, b"%049d\n" % number)
            keeper._bound_logs()
            assert path.stat().st_size <= 1050
        kept = (tmp_path / f"{name}.log.1").read_bytes() + path.read_bytes()
        assert len(kept) <= 2100 and kept.endswith(b"%049d\n" % 99)
        os.close(descriptor)
