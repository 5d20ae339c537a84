"""Where the time of a run went: minutes per folder of tests, and the slowest files."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import psutil
import pytest

from tests.support.second_try import folder_of

FILES = 15


class Minutes:
    """Of the process that sees all reports. Minutes of set-up, test and clean-up, as the tests' processes had them; how busy
    the machine was tells whether they worked or waited."""

    def __init__(self) -> None:
        self._began, self._idle = time.monotonic(), _idle()
        self._folders: dict[str, float] = defaultdict(float)  # seconds
        self._files: dict[str, float] = defaultdict(float)
        self._tests: dict[str, set[str]] = defaultdict(set)
        self._last: dict[str, float] = {}  # by process: when its last test ended

    def pytest_runtest_logreport(self, report: Any) -> None:
        folder = folder_of(report.nodeid)
        self._folders[folder] += report.duration
        self._files[report.nodeid.partition("::")[0]] += report.duration
        self._tests[folder].add(report.nodeid)
        self._last[getattr(report, "worker_id", "")] = time.monotonic() - self._began

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if len(self._folders) < 2:
            return
        elapsed = time.monotonic() - self._began
        busy = 1 - (_idle() - self._idle) / (elapsed * (psutil.cpu_count() or 1))
        terminalreporter.write_sep("=", "minutes")
        for folder, seconds in sorted(self._folders.items(), key=lambda row: -row[1]):
            terminalreporter.write_line(f"{seconds / 60:7.2f}  tests/{folder} ({len(self._tests[folder])} tests)")
        ends = ", ".join(f"{each / 60:.1f}" for each in sorted(self._last.values()))
        terminalreporter.write_line(
            f"{sum(self._folders.values()) / 60:7.2f}  in all; {elapsed / 60:.1f} by the clock, the machine {busy:.0%} busy; "
            f"the last tests ended after {ends}"
        )
        terminalreporter.write_line("slowest files:")
        for file, seconds in sorted(self._files.items(), key=lambda row: -row[1])[:FILES]:
            terminalreporter.write_line(f"{seconds / 60:7.2f}  {file}")


def _idle() -> float:
    """Seconds that the machine's processors had nothing to do, all together."""
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0)
