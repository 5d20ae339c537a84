"""EC2 announces that it takes a spot machine back, and recommends to leave one that it soon may."""

from __future__ import annotations

import calendar
import json
import time
import urllib.error

from clusterctl_runtime.agent.notices.source import Notice, Service

BASE = "http://169.254.169.254/latest"
EVERY_SECONDS = 3.0  # EC2 gives 120 seconds; it asks for a look every five
REBALANCE_SECONDS = 600.0  # a rebalance recommendation names no end: so long the node goes on at most
_TOKEN_SECONDS = 21600


class AwsMetadata:
    """IMDSv2: every answer needs a token, which is asked for when there is none or it has run out. Notices are "terminate",
    "stop", "hibernate" and "rebalance"."""

    every = EVERY_SECONDS

    def __init__(self, base: str = BASE) -> None:
        self._service, self._token = Service(base), ""

    def get(self, path: str) -> str:
        """The text at `path`, "" where there is none; raises OSError when the service does not answer."""
        for _ in range(2):
            if not self._token:
                ask = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
                self._token = self._service.open("/api/token", ask, "PUT")
            try:
                return self._service.open(f"/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return ""
                if error.code != 401:
                    raise
                self._token = ""
        raise OSError("the metadata service does not accept its own token")

    def notice(self) -> Notice | None:
        """An interruption goes before a recommendation."""
        action = self.get("spot/instance-action")
        if action:
            data = json.loads(action)
            return str(data["action"]), _seconds(data["time"]) + self._service.ahead
        advice = self.get("events/recommendations/rebalance")
        if advice:
            noticed = _seconds(json.loads(advice)["noticeTime"])
            return "rebalance", noticed + REBALANCE_SECONDS + self._service.ahead
        return None


def _seconds(text: str) -> float:
    """EC2's "2026-01-31T12:00:00Z" in unix seconds."""
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
