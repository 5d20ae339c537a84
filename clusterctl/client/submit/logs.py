"""A job's output as it comes: each byte once, also when the head is started again in the middle."""

from __future__ import annotations

import base64
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from clusterctl.client.head.api import Api, follow

FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Piece:
    """Some output of one rank, as the program wrote it. `offset` is the place of its first byte in that rank's log; `cut`: that
    is the end of a line which is longer than the last lines may be."""

    attempt: int
    rank: int
    offset: int
    data: bytes
    cut: bool = False


@dataclass(frozen=True)
class End:
    """The job has ended and its log is whole; or the log was read to where it is now (`state` is then not final)."""

    state: str
    exit_code: int | None


class LogReader:
    """Reads a job's log from where it stopped: `pieces` may be called again after it was left in the middle. `ranks` is
    how many logs there are to read."""

    def __init__(
        self,
        api: Api,
        job_id: str,
        *,
        ranks: int = 1,
        rank: int | None = None,
        attempt: int | None = None,
        tail: int | None = None,
    ) -> None:
        self._api = api
        self._job_id = job_id
        self._ranks = 1 if rank is not None else ranks
        self._rank = rank
        self._attempt = attempt
        self._tail = tail
        self._seen: dict[tuple[int, int], int] = {}  # (attempt, rank) -> bytes of it that were passed on

    def pieces(self, *, follow_on: bool) -> Generator[Piece | End, None, None]:
        """What is new, then End; with `follow_on` when the job has ended, over retries and restarts of the head."""
        with closing(follow(lambda: self._open(follow_on))) as stream:
            for item in stream:
                if item.get("end"):
                    yield End(str(item.get("state") or ""), item.get("exit_code"))
                    return
                key = (int(item["attempt"]), int(item["rank"]))
                new = _unseen(item, self._seen.get(key, 0))
                self._seen[key] = max(self._seen.get(key, 0), int(item["next"]))
                if new:
                    yield Piece(*key, *new, cut=bool(item.get("cut")))

    def _open(self, follow_on: bool) -> Generator[dict[str, Any], None, None]:
        query: dict[str, Any] = {"rank": self._rank, "attempt": self._attempt, "follow": 1 if follow_on else None}
        if not self._seen:
            yield from self._stream(query, tail=self._tail)
            return
        # The attempt that was being read is finished first: asked without its number, the head begins with the newest.
        current = max(attempt for attempt, _ in self._seen)
        ends = [end for (attempt, _), end in self._seen.items() if attempt == current]
        offset = min(ends) if len(ends) == self._ranks else 0
        for item in self._stream({**query, "attempt": current}, offset=offset):
            if item.get("end") and follow_on and self._attempt is None and item.get("state") not in FINAL:
                break
            yield item
        else:
            return
        yield from self._stream(query)

    def _stream(self, query: dict[str, Any], **more: Any) -> Generator[dict[str, Any], None, None]:
        return self._api.stream(f"/api/v1/jobs/{self._job_id}/logs", **query, **more)


def _unseen(item: dict[str, Any], position: int) -> tuple[int, bytes] | None:
    """(offset, bytes) of what lies behind `position` in `item`, None when nothing does."""
    offset, end = int(item["offset"]), int(item["next"])
    if end <= position:
        return None
    data = base64.b64decode(item["base64"]) if "base64" in item else str(item["data"]).encode()
    start = max(offset, position)
    return start, data[start - offset :]
