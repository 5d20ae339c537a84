"""What a run could not test on its machine is said at its end, where nobody overlooks it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

NOT_HERE = "not on this machine: "  # how the reason of such a skip begins


class LoudSkips:
    """Of the process that sees all reports."""

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        reasons = (str(report.longrepr[-1]) for report in terminalreporter.stats.get("skipped", ()))
        loud = Counter(each.partition(NOT_HERE)[2] for each in reasons if NOT_HERE in each)
        for reason, count in sorted(loud.items()):
            terminalreporter.write_line(f"NOT TESTED: {count} tests: {reason}", red=True, bold=True)
