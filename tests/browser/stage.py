"""What the browser tests act on: a cluster, its `clusterctl dashboard`, and the page as a person sees it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from clusterctl.client.head.api import Api
from clusterctl.client.registry import Cluster

CLUSTERCTL = [sys.executable, "-m", "clusterctl"]
DEADLINE = 120.0  # seconds that anything on the page may take, on a slow and busy machine
CHROMIUM_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
)

T = TypeVar("T")


def eventually(found: Callable[[], T], what: str | Callable[[], str], seconds: float = DEADLINE) -> T:
    """The first true value of `found`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain for {what() if callable(what) else what}")
        time.sleep(0.05)
    return value


@dataclass
class Live:
    """A running cluster and the way to its API."""

    cluster: Cluster
    environment: dict[str, str]

    @property
    def head_pid(self) -> int:
        return int(self.cluster.read_head()["pid"])

    @property
    def supervisor_pid(self) -> int:
        return int((self.cluster.head_dir / "supervisor.pid").read_text())

    def get(self, path: str) -> dict[str, Any]:
        with Api.of(self.cluster) as api:
            return api.get(f"/api/v1/{path}")

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Over a connection of its own: a kept one would not outlive a head that is killed on purpose."""
        with Api.of(self.cluster) as api:
            return api.post(f"/api/v1/{path}", body)

    def submit(self, *argv: str, **request: Any) -> str:
        return str(self.post("jobs", {"argv": list(argv), "engine": False, **request})["id"])

    def python(self, program: str, *arguments: str, **request: Any) -> str:
        """Runs `program` (text) unbuffered; returns the job's id."""
        return self.submit(sys.executable, "-u", "-c", program, *arguments, **request)

    def job(self, job_id: str) -> dict[str, Any]:
        return self.get(f"jobs/{job_id}")

    def ticket(self) -> str:
        return str(self.post("tickets")["ticket"])


@dataclass
class Forward:
    """A running `clusterctl dashboard`. `address` is "http://127.0.0.1:PORT/", `url` is that with a ticket."""

    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> str:
        return self.url.split("#", 1)[0]

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1].rstrip("/"))

    def end(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


def start_forward(live: Live) -> Forward:
    process = subprocess.Popen(
        [*CLUSTERCTL, "dashboard", "-c", "page", "--no-browser"],
        env=live.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if match := re.search(r"http://127\.0\.0\.1:\d+/#ticket=[\w-]+", line):
            return Forward(process, match.group())
    process.wait(timeout=120)
    pytest.fail(f"`clusterctl dashboard` ended without printing the page's address:\n{printed}")


def _program(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(
        f"the browser tests need {' or '.join(names)}, which is not installed: "
        "on Debian or Ubuntu, `sudo apt-get install chromium chromium-driver` (`make test` does it)"
    )


def open_chromium(profile: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(_program("chromedriver")))


class Page:
    """The dashboard in one tab, let in by a fresh ticket. Waits are on what a person would see."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def enter(self, ticket: str) -> None:
        self.driver.get("about:blank")  # else a change of the fragment alone would not load the page
        self.driver.get(f"{self.address}#ticket={ticket}")

    def go(self, path: str) -> None:
        """To a view: "/jobs/ID"."""
        self._script("location.hash = arguments[0]", f"#{path}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def attribute(self, selector: str, name: str) -> str | None:
        return self._script("return document.querySelector(arguments[0])?.getAttribute(arguments[1])", selector, name)

    def value(self, selector: str) -> str:
        """What a control of a form holds."""
        return str(self._script("return document.querySelector(arguments[0])?.value ?? ''", selector))

    def _script(self, script: str, *arguments: str) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "main") -> str:
        """The text content, read at one moment (elements may be made anew between two calls)."""
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return str(self._script(script, selector))

    def shown(self, selector: str = "main") -> str:
        """The text as it is laid out: hidden parts are left out."""
        return str(self._script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def lines(self) -> list[str]:
        script = "return [...document.querySelectorAll('.output .line')].map(line => line.textContent)"
        return list(self._script(script))

    def wait_text(self, wanted: str, selector: str = "main") -> None:
        eventually(
            lambda: wanted in self.text(selector), f"{wanted!r} in {selector}; it says:\n{self.text(selector)[:2000]}"
        )

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Elements that are made anew while the condition looks at them are looked for again."""
        patience = WebDriverWait(
            self.driver, DEADLINE, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        try:
            return patience.until(lambda _: condition(), what)
        except TimeoutException:
            said = [self.text(place) for place in ("#connection", "#banner", "#log-state", "main")]
            hidden = self._script("return document.hidden")
            pytest.fail(f"waited in vain for {what}; hidden: {hidden}, the page says: {' | '.join(said)[:2000]}")

    def click(self, selector: str) -> None:
        def clicked() -> bool:
            for element in self.all(selector)[:1]:
                element.click()
                return True
            return False

        self.wait(clicked, f"no {selector} on the page")

    def complaints(self) -> list[str]:
        """What the browser's console has said since the last call, connections that were refused apart."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in said if "net::ERR_" not in message]
