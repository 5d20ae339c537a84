"""Requests without a pause from several clients, half of which keep their connection: what was answered, and what went wrong."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Load:
    """`answers`: text -> how often. `failures`: what was no 200, with the seconds since the load began. `slowest`: seconds that
    an answer took at most."""

    answers: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    slowest: float = 0.0
    since: float = field(default_factory=time.monotonic)
    _ended: threading.Event = field(default_factory=threading.Event)

    def take(self, status: int, text: str) -> None:
        if status == 200:
            self.answers[text] += 1
        else:
            self.fail(f"{status} {text[:200]}")

    def fail(self, what: str) -> None:
        self.failures.append(f"{time.monotonic() - self.since:.2f} s: {what}")
        self._ended.wait(0.05)

    def run(self, port: int, path: str, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", path)
                answer = connection.getresponse()
                self.take(answer.status, answer.read().decode(errors="replace"))
            except (OSError, http.client.HTTPException) as error:
                self.fail(repr(error))
                keep_this = False
            else:
                keep_this = keep
                self.slowest = max(self.slowest, time.monotonic() - began)
            if connection is not None and not keep_this:
                with suppress(OSError):
                    connection.close()
                connection = None

    def end(self) -> None:
        self._ended.set()


@contextmanager
def load(port: int, path: str, clients: int = 6) -> Iterator[Load]:
    found = Load()
    threads = [threading.Thread(target=found.run, args=(port, path, bool(n % 2)), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.end()
        for thread in threads:
            thread.join(timeout=60)
