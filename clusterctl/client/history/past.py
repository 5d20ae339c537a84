"""The API of a head that is no more: what is asked of it is answered from the archive, at the same paths and in the same form."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.history.archive import Ended
from clusterctl.core.errors import NotFound, Refused, UsageError
from clusterctl.core.lifetime import moment

Json = dict[str, Any]
LAST = "last"


class PastApi(Api):
    """Only `get` and `stream`, of jobs, arrays, logs, events and costs."""

    def __init__(self, ended: Ended, kept: Json) -> None:
        super().__init__(self._nobody, ended.name)
        self._ended = ended
        self._jobs: list[Json] = kept["jobs"]
        self._counts, self._events, self._costs = kept["counts"], kept["events"], kept["cost"]
        self._logs, self._shown = kept["logs"], kept["shown"]

    def get(self, path: str, **query: Any) -> Json:
        """As of the head. Raises NotFound, and Refused for what is not kept."""
        for pattern, answer in self._answers().items():
            if found := re.fullmatch(pattern, path):
                return answer(*found.groups(), query)
        return self._nobody()

    def stream(self, path: str, *, silence: float | None = None, **query: Any) -> Generator[Json, None, None]:
        """The pieces of a job's log, and its end."""
        found = re.fullmatch(r"/api/v1/jobs/([^/]+)/logs", path)
        if found is None:
            self._nobody()
        assert found is not None
        job = self._job(found[1], {})
        pieces = [one for one in self._logs.get(job["id"], []) if query.get("rank") in (None, one["rank"])]
        newest = max((one["attempt"] for one in pieces), default=1)
        pieces = [one for one in pieces if one["attempt"] == (query.get("attempt") or newest)]
        yield from pieces if query.get("tail") is None else _tail(pieces, int(query["tail"]))
        yield {"end": True, "state": job["state"], "exit_code": job["exit_code"], "reason": job["reason"]}

    def clone(self) -> Api:
        return self

    def _answers(self) -> dict[str, Callable[..., Json]]:
        return {
            "/api/v1/jobs": self._list,
            "/api/v1/jobs:named": self._named,
            "/api/v1/jobs/([^/]+)": self._job,
            "/api/v1/arrays/([^/]+)": self._array,
            "/api/v1/events": self._told,
            "/api/v1/cost": lambda query: self._costs.get(query.get("by"), self._costs["pool"]),
        }

    def _nobody(self) -> Any:
        raise Refused(
            f"cluster {self.name!r} is down since {moment(self._ended.ended)}: kept are its jobs, logs, events and costs, and "
            "nothing can be asked of it any more"
        )

    # ------------------------------------------------------------ answers

    def _list(self, query: Json) -> Json:
        words = str(query.get("match") or "").lower().split()
        wanted = [
            job
            for job in self._jobs
            if query.get("state") in (None, "", job["state"])
            and query.get("array") in (None, "", job["array_id"])
            and all(word in _shown(job) for word in words)
        ]
        return {"jobs": wanted[: query.get("limit")], "counts": self._counts, "next": None}

    def _job(self, job_id: str, _: Json) -> Json:
        found = next((job for job in self._jobs if job["id"] == job_id), None)
        if found is None:
            raise NotFound(
                f"no job {job_id!r} is kept of cluster {self.name!r}: `clusterctl jobs --history` lists them"
            )
        return self._shown.get(job_id, found)

    def _array(self, array_id: str, _: Json) -> Json:
        members = [job for job in self._jobs if job["array_id"] == array_id]
        if not members:
            raise NotFound(f"no array {array_id!r} is kept of cluster {self.name!r}")
        states = sorted({job["state"] for job in members})
        return {"id": array_id, "counts": {state: sum(job["state"] == state for job in members) for state in states}}

    def _named(self, query: Json) -> Json:
        """By id, as the last one, by name, by the beginning of an id, or as ARRAY.INDEX."""
        word = str(query["word"])
        if word == LAST and self._jobs:
            return {"id": _whole(self._jobs[0])}
        found = self._search(word)
        if not found and "." in word:
            array, _, index = word.rpartition(".")
            found = [f"{of}.{index}" for of in self._search(array)]
        if len(found) > 1:
            raise UsageError(f"{word!r} is the beginning of several jobs ({', '.join(found[:4])}): name one by its id")
        if not found:
            raise NotFound(f"no job {word!r} is kept of cluster {self.name!r}")
        return {"id": found[0]}

    def _search(self, word: str) -> list[str]:
        exact = [job["id"] for job in self._jobs if job["id"] == word]
        arrays = [job["array_id"] for job in self._jobs if job["array_id"] == word]
        named = [_whole(job) for job in self._jobs if job["name"] == word]
        begun = [_whole(job) for job in self._jobs if job["id"].startswith(word)]
        return exact or arrays[:1] or named[:1] or list(dict.fromkeys(begun))

    def _told(self, query: Json) -> Json:
        subject, since, limit = str(query.get("subject") or ""), int(query.get("since") or 0), int(query["limit"])
        events = [one for one in self._events if not subject or one.get("subject") == subject]
        last = self._events[-1]["seq"] if self._events else 0
        if since < 0:
            return {"events": events[-limit:], "last": last}
        return {"events": [one for one in events if one["seq"] > since][:limit], "last": last}


def _whole(job: Json) -> str:
    return job["array_id"] or job["id"]


def _shown(job: Json) -> str:
    told = (
        job["id"],
        job["name"],
        job["script"],
        *job["entrypoint"],
        job["state"],
        job["reason"],
        job["user"],
        job["pool"],
    )
    return " ".join(map(str, told)).lower()


def _tail(pieces: list[Json], lines: int) -> Generator[Json, None, None]:
    """The last lines of each rank, as one piece."""
    for rank in sorted({one["rank"] for one in pieces}):
        mine = [one for one in pieces if one["rank"] == rank]
        text = "".join(one["data"] for one in mine)
        kept = text.splitlines(keepends=True)
        data = "".join(kept[len(kept) - min(lines, len(kept)) :])
        end = mine[-1]["next"]
        if data:
            yield {
                "rank": rank,
                "attempt": mine[-1]["attempt"],
                "offset": end - len(data.encode()),
                "next": end,
                "data": data,
            }
