"""What every test needs, wherever it is run from, and which tests stay together when several run at a time."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.support.loud import LoudSkips
from tests.support.minutes import Minutes
from tests.support.quick import Quick
from tests.support.second_try import FlakyList, SecondTry

# A shell that runs a command in the background makes it ignore SIGINT, and all that it starts. Tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start our programs some thousand times. Where bytecode is not kept, as in many images of containers, each would compile
# all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples in every run, however busy the machine is: `pytest --hypothesis-profile=default tests/core` tries new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

SHARED = ("tests/ai/", "tests/browser/", "tests/engine/")  # one Chromium, one Ray for the whole folder
# Several processes end at the same time when what takes minutes begins first and what takes seconds fills the gaps.
FIRST = (
    "tests/ai/", "tests/ssh/", "tests/aws/", "tests/azure/", "tests/gcp/", "tests/any_cloud/", "tests/crash/", "tests/engine/",
    "tests/docker/", "tests/e2e/", "tests/mixed/", "tests/mounts/", "tests/cloud/", "tests/contract/", "tests/setup/",
    "tests/kubernetes/test_kubelet.py", "tests/kubernetes/",
)  # fmt: skip


class Together(LoadScopeScheduling):
    """A file's tests run in one process, so that what they share is made once; so do those of folders that share more."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARED if nodeid.startswith(folder)), nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Quick())
    config.pluginmanager.register(SecondTry())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Minutes())
        config.pluginmanager.register(FlakyList())
        config.pluginmanager.register(LoudSkips())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, each in enumerate(FIRST) if item.nodeid.startswith(each)), len(FIRST)))
