"""A notice that this machine will be taken back, and where one is read. Standard library only, as the whole agent."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol, runtime_checkable

CLOCK_MARGIN = 5.0  # seconds; answers are dated to the second

Notice = tuple[str, float]  # (the provider's word for it, when in unix seconds by this machine's clock)


class Source(Protocol):
    @property
    def every(self) -> float:
        """Seconds between two looks."""
        ...

    def notice(self) -> Notice | None:
        """What is announced for this machine, the same as long as it stays announced. It may take some seconds; raises OSError
        where there is no answer, and ValueError or KeyError for one that makes no sense."""
        ...


@runtime_checkable
class Confirms(Protocol):
    """A source that takes an answer."""

    def confirm(self) -> None:
        """Nothing runs here any more: what is announced may come at once. It may take some seconds; raises OSError where there
        is no answer."""
        ...


class Service:
    """A cloud's metadata service: plain HTTP at an address of the machine's own link, so no proxy is asked. It says when by the
    cloud's clock, which dates its answers."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.ahead = 0.0  # seconds by which this machine's clock is before the cloud's
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def open(self, path: str, headers: Mapping[str, str], method: str = "GET", body: bytes | None = None) -> str:
        """Raises urllib's HTTPError for an answer other than 200, OSError for none."""
        request = urllib.request.Request(self._base + path, body, dict(headers), method=method)  # noqa: S310  by `base`
        with self._opener.open(request, timeout=2) as answer:
            self._compare_clocks(answer.headers.get("Date", ""))
            return answer.read(65536).decode()

    def _compare_clocks(self, date: str) -> None:
        """Takes up what is more than a second's rounding: one notice must stay the same."""
        with contextlib.suppress(TypeError, ValueError):
            ahead = time.time() - parsedate_to_datetime(date).timestamp()
            if abs(ahead - self.ahead) > CLOCK_MARGIN:
                self.ahead = ahead
