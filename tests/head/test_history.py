"""Figures over time: fine for an hour, coarse for a month, and never more of them than there is room for."""

from __future__ import annotations

from pathlib import Path

from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.history.figures import Figures
from clusterctl_runtime.head.history.recorder import Recorder
from clusterctl_runtime.head.history.rings import SPANS, Rings
from clusterctl_runtime.head.storage.store import Store

START = 1_800_000_000  # a whole number of steps of every span
DAY = 86_400
ROWS = sum(span.length for span in SPANS)


def test_an_hour_is_kept_as_it_was_and_older_times_as_means() -> None:
    rings = Rings()
    for second in range(0, 2 * DAY, 10):
        rings.add(START + second, (float(second), None))
    hour, day, month = (rings.rows(span.name) for span in SPANS)
    assert [(one.slot * 10 - START, one.row) for one in hour] == [
        (second, (float(second), None)) for second in range(2 * DAY - 3600, 2 * DAY, 10)
    ]
    assert [(one.slot * 180 - START, one.row[0]) for one in day] == [
        (second, second + 85) for second in range(DAY, 2 * DAY, 180)
    ]
    assert [(one.slot * 900 - START, one.row[0]) for one in month] == [
        (second, second + 445) for second in range(0, 2 * DAY, 900)
    ]


def test_a_time_that_is_not_over_is_shown_as_far_as_it_went_and_a_time_without_a_head_not_at_all() -> None:
    rings = Rings()
    for second in (0, 10, 20, 4000, 4010):
        rings.add(START + second, (float(second),))
    assert [(one.slot * 10 - START) for one in rings.rows("hour")] == [4000, 4010]
    assert [(one.slot * 180 - START, one.row[0]) for one in rings.rows("day")] == [(0, 10.0), (3960, 4005.0)]


def _figures(number: float) -> Figures:
    return Figures(*([number] * (len(Figures._fields) - 1)), memory_used=None)


def test_a_head_that_is_restarted_goes_on_with_what_was_kept_and_the_file_has_its_bounds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    end = int(steady_time()) // 900 * 900
    recorder = Recorder(store, _never)
    for second in range(end - 3 * DAY, end, 10):
        recorder.take(second, _figures(second % 7))
    before = {span.name: recorder.document(span.name) for span in SPANS}
    store.close()
    store = Store(tmp_path / "store.db")
    assert store.rows("SELECT count(*) FROM history")[0][0] <= ROWS
    again = Recorder(store, _never)
    # What is not over is told from what is on disk of the finer ones, so that nothing is lost by the restart.
    assert {span.name: again.document(span.name) for span in SPANS} == before
    fields, rows = before["hour"]["fields"], before["hour"]["rows"]
    assert len(rows) == 360 and fields == ["at", *Figures._fields]
    assert rows[-1][0] == end - 10 and rows[-1][-1] is None
    store.close()


def test_what_a_wrong_clock_wrote_into_the_future_hides_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    now = int(steady_time()) // 10 * 10
    Recorder(store, _never).take(now + 10 * DAY, _figures(9))
    store.close()
    store = Store(tmp_path / "store.db")
    recorder = Recorder(store, _never)
    recorder.take(now, _figures(1))
    assert [row[:2] for row in recorder.document("hour")["rows"]] == [[now, 1]]
    store.close()


async def _never() -> Figures:
    raise AssertionError("nobody asked it to run")
