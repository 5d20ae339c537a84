"""The notice that this spot machine will be taken back: from EC2's metadata service, or from the script of a fake cloud.
Standard library only.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

log = logging.getLogger(__name__)

BASE = "http://169.254.169.254/latest"
EVERY_SECONDS = 3.0  # EC2 gives 120 seconds; it asks for a look every five
REBALANCE_SECONDS = 600.0  # a rebalance recommendation names no end: so long the node goes on at most
_TOKEN_SECONDS = 21600

CLOCK_MARGIN = 5.0  # seconds; answers are dated to the second

Notice = tuple[
    str, float
]  # ("terminate" | "stop" | "hibernate" | "rebalance", when in unix seconds by this machine's clock)


class Metadata:
    """IMDSv2: every answer needs a token, which is asked for when there is none or it has run out."""

    every = 0.0  # the usual

    def __init__(self, base: str = BASE) -> None:
        self._base, self._token = base, ""
        self._ahead = 0.0  # seconds by which this machine's clock is before EC2's
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> str:
        """The text at `path`, "" where there is none; raises OSError when the service does not answer."""
        for _ in range(2):
            if not self._token:
                ask = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
                self._token = self._open("/api/token", ask, "PUT")
            try:
                return self._open(f"/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, "GET")
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return ""
                if error.code != 401:
                    raise
                self._token = ""
        raise OSError("the metadata service does not accept its own token")

    def notice(self) -> Notice | None:
        """What EC2 announces for this instance, if anything. An interruption goes before a recommendation."""
        action = self.get("spot/instance-action")
        if action:
            data = json.loads(action)
            return str(data["action"]), _seconds(data["time"]) + self._ahead
        advice = self.get("events/recommendations/rebalance")
        if advice:
            return "rebalance", _seconds(json.loads(advice)["noticeTime"]) + REBALANCE_SECONDS + self._ahead
        return None

    def _open(self, path: str, headers: dict[str, str], method: str) -> str:
        request = urllib.request.Request(self._base + path, method=method, headers=headers)  # noqa: S310  http, by BASE
        with self._opener.open(request, timeout=2) as answer:
            self._compare_clocks(answer.headers.get("Date", ""))
            return answer.read(65536).decode()

    def _compare_clocks(self, date: str) -> None:
        """Takes up what is more than a second's rounding: one notice must stay the same."""
        with contextlib.suppress(TypeError, ValueError):
            ahead = time.time() - parsedate_to_datetime(date).timestamp()
            if abs(ahead - self._ahead) > CLOCK_MARGIN:
                self._ahead = ahead


class ScriptedMetadata:
    """A fake cloud leaves a file in the node's directory that says what is announced from when on:
    {"action", "time", "from"}, times in unix seconds."""

    every = 0.5

    def __init__(self, path: Path) -> None:
        self._path = path

    def notice(self) -> Notice | None:
        try:
            data = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return (str(data["action"]), float(data["time"])) if time.time() >= float(data["from"]) else None


def metadata_of(provider: str, directory: Path) -> Metadata | ScriptedMetadata | None:
    """Where notices are to be read on a node of this provider; None where there are none."""
    if provider == "aws":
        return Metadata()
    return ScriptedMetadata(directory / "metadata.json") if provider == "fake" else None


async def watch_notices(tell: Callable[[Notice], None], metadata: Metadata | ScriptedMetadata) -> None:
    """Calls `tell` with every new notice, for as long as the node lives."""
    loop = asyncio.get_running_loop()
    told: Notice | None = None
    while True:
        try:
            notice = await loop.run_in_executor(None, metadata.notice)
            if notice and notice != told:
                told = notice
                tell(notice)
        except (OSError, ValueError, KeyError) as error:
            log.debug("the metadata service: %s", error)
        await asyncio.sleep(metadata.every or EVERY_SECONDS)


def _seconds(text: str) -> float:
    """EC2's "2026-01-31T12:00:00Z" in unix seconds."""
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
