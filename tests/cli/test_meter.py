"""How far an upload is: on a terminal, elsewhere, and for who wants to hear nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from clusterctl.cli.render import meter
from clusterctl.cli.render.meter import ShownMeter, end_text, line_text, make_meter, size_text
from clusterctl.client.meter import counting, metered, watched_by

MIB = 2**20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def transfer(shown: ShownMeter, clock: Clock, *, seconds: float, steps: int = 10) -> None:
    shown.begin("sending to the head", 100 * MIB, 50 * MIB)
    for _ in range(steps):
        clock.now += seconds / steps
        shown.add(100 * MIB // steps)
    shown.end()


def test_a_terminal_sees_how_much_how_fast_and_what_is_left(capsys: Any) -> None:
    clock = Clock()
    transfer(ShownMeter(True, clock), clock, seconds=5)
    drawn = capsys.readouterr().err.split("\r\x1b[K")
    assert drawn[0] == "" and drawn[1] == "sending to the head: 20 of 100 MiB, 20.0 MiB/s, 4.0 s left"
    assert drawn[-2] == "sending to the head: 100 of 100 MiB, 20.0 MiB/s, 0 s left"
    assert drawn[-1] == "sending to the head: 100 MiB in 5.0 s (20.0 MiB/s); the other 50.0 MiB had come before\n"


def test_a_line_is_never_wider_than_the_terminal(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setenv("COLUMNS", "30")
    shown = ShownMeter(True, clock)
    shown.begin("sending to the head", 100 * MIB)
    clock.now += 2
    shown.step("packing a/very/long/name/\x1b[31mof-a-file.bin")
    (line,) = capsys.readouterr().err.split("\r\x1b[K")[1:]
    assert len(line) == 29 and "\x1b" not in line


def test_elsewhere_one_line_comes_at_the_end(capsys: Any) -> None:
    clock = Clock()
    transfer(ShownMeter(False, clock), clock, seconds=5)
    assert capsys.readouterr().err.count("\n") == 1 and not re.search(r"[\r\x1b]", capsys.readouterr().err)


def test_what_took_a_moment_only_is_not_mentioned(capsys: Any) -> None:
    clock = Clock()
    for live in (True, False):
        transfer(ShownMeter(live, clock), clock, seconds=0.9)
    assert capsys.readouterr().err == ""


def test_what_broke_off_says_how_far_it_came() -> None:
    assert (
        end_text("sending", 30 * MIB, 100 * MIB, 0, 3) == "sending: 30 of 100 MiB, then it ended, in 3.0 s (10.0 MiB/s)"
    )


def test_quiet_is_quiet(capsys: Any) -> None:
    with watched_by(make_meter(quiet=True)), metered("sending", 5) as shown:
        shown.add(5)
    assert capsys.readouterr().err == "" and not isinstance(shown, ShownMeter)


def test_what_is_sent_once_more_after_a_break_is_not_counted_twice() -> None:
    class Sum(meter.Meter):
        done = 0

        def add(self, count: int) -> None:
            self.done += count

    with watched_by(total := Sum()):
        reached = counting(2.0)
        for position in (10, 60, 10, 60, 100):
            reached(position)
    assert total.done == 200


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99.96 * MIB, "100 MiB"),
        (1023.6 * MIB, "1.0 GiB"),
        (2**43, "8192 GiB"),
    ],
)
def test_sizes_are_short(count: float, text: str) -> None:
    assert size_text(count) == text


def test_a_line_has_what_is_done_in_the_unit_of_the_whole() -> None:
    assert line_text("sending", 512 * 1024, 3 * MIB // 2, 0) == "sending: 0.5 of 1.5 MiB"
    assert line_text("sending", 0, 300 * MIB, MIB) == "sending: 0 of 300 MiB, 1.0 MiB/s, 5 min left"
