"""A test that drives real processes and fails is run once more in the same run. Those that passed only then are listed at
the end, and all first tries in `build/flaky.txt` with their tracebacks: work to do, not noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

# Folders whose tests start programs, machines or browsers, or call a registry. Logic has one try: what fails there sometimes
# is a fault of ours, and a guard that holds at the second try holds nothing.
REAL = frozenset(
    {
        "agent",
        "any_cloud",
        "aws",
        "azure",
        "ai",
        "browser",
        "cli",
        "client",
        "cloud",
        "contract",
        "crash",
        "docker",
        "e2e",
        "engine",
        "entry",
        "gcp",
        "kubernetes",
        "mixed",
        "mounts",
        "setup",
        "ssh",
    }
)
LIST = "build/flaky.txt"
_SETTINGS = pytest.StashKey[Any]()
_STOPPED = pytest.StashKey[bool]()


def folder_of(nodeid: str) -> str:
    """Of tests/e2e/test_jobs.py::test_...: "e2e"; of a file directly below tests: "."."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "."


class SecondTry:
    def pytest_collection_modifyitems(self, config: pytest.Config, items: Iterable[pytest.Item]) -> None:
        if config.getoption("usepdb"):  # whoever looks at a failure wants the first
            return
        for item in items:
            if folder_of(item.nodeid) in REAL:
                item.add_marker(pytest.mark.flaky(reruns=1))

    # -- its time limit: pytest-timeout counts from the first try on, and stops counting at the first failure

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        item.stash[_SETTINGS] = settings

    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector) -> None:
        node.stash[_STOPPED] = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if getattr(item, "execution_count", 1) > 1:
            _count_anew(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if item.stash.get(_STOPPED, False):
            _count_anew(item)


def _count_anew(item: pytest.Item) -> None:
    item.stash[_STOPPED] = False
    if _SETTINGS in item.stash:
        item.config.hook.pytest_timeout_cancel_timer(item=item)
        item.config.hook.pytest_timeout_set_timer(item=item, settings=item.stash[_SETTINGS])


class FlakyList:
    """Of the process that sees all reports."""

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if config.getoption("collectonly"):
            return
        stats = terminalreporter.stats
        lost = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, ())}
        first = {report.nodeid: report for report in stats.get("rerun", ())}
        flaky = {name: report for name, report in first.items() if name not in lost}
        path = Path(config.rootpath, LIST)
        before = _names(path)
        _write(path, first)
        terminalreporter.write_line(f"flaky: {len(flaky)}", yellow=bool(flaky), bold=bool(flaky))
        for name, report in sorted(flaky.items()):
            again = " (in the list of the run before, too)" if name in before else ""
            terminalreporter.write_line(f"  {name}{again}: {_reason(report)}")
        for name in sorted(first.keys() & lost):  # the second try may have failed for what the first had left
            terminalreporter.write_line(f"failed twice: {name}: at the first try: {_reason(first[name])}")
        if first:
            terminalreporter.write_line(f"  what the first tries said is in {LIST}")


def _reason(report: Any) -> str:
    """The first and the last line of what was raised: what a command was, and what it said at its end."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr or report.when)).strip().splitlines() or [""]
    return " ... ".join(line.strip()[:160] for line in dict.fromkeys((lines[0], lines[-1])))


def _names(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line for line in lines if line and not line[0].isspace()}


def _write(path: Path, first: dict[str, Any]) -> None:
    """A name a line; below it, indented, the first try's traceback."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, report in sorted(first.items()):
        lines += [name, *(f"    {line}" for line in str(report.longrepr or "").splitlines())]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
