"""What every test needs, wherever it is run from, and which tests stay together when several run at a time."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.support.minutes import Minutes
from tests.support.second_try import FlakyList, SecondTry

# A shell that runs a command in the background makes it ignore SIGINT, and all that it starts. Tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however busy the machine is: `pytest --hypothesis-profile=default tests/core` tries new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

CLOUDS = ("tests/aws/", "tests/cloud/")


class Together(LoadScopeScheduling):
    """A file's tests run in one process, so that what they share is made once. So do all that boot machines of pretended
    clouds: these have one network, and would only wait for each other."""

    def _split_scope(self, nodeid: str) -> str:
        return "clouds" if nodeid.startswith(CLOUDS) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SecondTry())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Minutes())
        config.pluginmanager.register(FlakyList())
