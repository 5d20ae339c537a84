"""A real cluster of local processes, the real `clusterctl dashboard`, and a real Chromium in front of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from selenium import webdriver

from clusterctl.client.registry import Registry
from tests.browser.stage import CLUSTERCTL, Forward, Live, Page, open_chromium, start_forward

SPEC = """\
cluster: page
provider: local
engine: none
pools:
  - {name: cpu, min: 1, max: 2, resources: {CPU: 4}, idle_timeout: 10m}
"""


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    spec = home / "cluster.yaml"
    spec.write_text(SPEC)
    environment = {**os.environ, "CLUSTERCTL_HOME": str(home), "NO_COLOR": "1"}
    up = subprocess.run(
        [*CLUSTERCTL, "up", str(spec), "-y"], env=environment, capture_output=True, text=True, timeout=120
    )
    try:
        assert up.returncode == 0, f"`clusterctl up` failed:\n{up.stdout}\n{up.stderr}"
        yield Live(Registry(home).load("page"), environment)
    finally:
        down = [*CLUSTERCTL, "down", "page", "-y"]
        subprocess.run(down, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="session")
def forward(live: Live) -> Iterator[Forward]:
    forward = start_forward(live)
    yield forward
    forward.end()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = open_chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium: webdriver.Chrome, forward: Forward, live: Live) -> Iterator[Page]:
    page = Page(chromium, forward.address)
    page.enter(live.ticket())
    page.wait_text("Live", "#connection")
    page.complaints()
    yield page
    for handle in chromium.window_handles[1:]:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(chromium.window_handles[0])
    chromium.get("about:blank")
