"""Which tests are for the inner loop: those that start no cluster, no machine, no Docker, no sshd, no Ray and no browser, and
whose file is none of the longest stories of a pretended cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.second_try import folder_of

FOLDERS = frozenset({"ai", "browser", "docker", "e2e", "engine", "kubernetes", "setup", "ssh"})
FIXTURES = frozenset({"cluster", "control_plane", "docker_engine", "make_cluster"})
STORIES = (
    "crash", "crash_parts", "doctor", "head_parts", "identity_deaths", "leftovers", "lost_home", "made_images", "weather"
)  # fmt: skip
LONG = frozenset(f"tests/{cloud}/test_{story}.py" for cloud in ("aws", "azure", "gcp") for story in STORIES)
CLASSES = frozenset(
    {"AwsMachines", "AzureMachines", "GcpMachines", "LocalCluster", "SshHosts"}
)  # a file that imports one starts some


class Quick:
    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "quick: needs no machine (tests/support/quick.py); `make test-quick`")

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """What all needs machines is not even imported."""
        skipped = config.getoption("markexpr") == "quick" and collection_path.name in FOLDERS
        return True if skipped and collection_path.parent.name == "tests" else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if item.nodeid.partition("::")[0] not in LONG and not needs_machines(item):
                item.add_marker("quick")


def needs_machines(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return (
        folder_of(item.nodeid) in FOLDERS
        or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or not CLASSES.isdisjoint(vars(module) if module else ())
        or "docker" in getattr(getattr(item, "callspec", None), "params", {}).values()
    )
