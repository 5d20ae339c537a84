"""What stays known of jobs that were forgotten: no figure of the cluster or of an array changes by forgetting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping

from clusterctl_runtime.head.jobs.arrays import Array, Failure, Tally
from clusterctl_runtime.head.jobs.charges import charge_of, user_of
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.storage.store import Statement, Store, statement

CLUSTER = ""  # the name under which the tally of all is kept; others are arrays


class Forgotten:
    """Tallies of forgotten jobs, of the whole cluster and of each array that still has members."""

    def __init__(self, store: Store) -> None:
        rows = store.rows("SELECT name, body FROM forgotten")
        self._tallies: dict[str, Tally] = {name: _tally(body) for name, body in rows}
        self._all = self._tallies.setdefault(CLUSTER, Tally())

    @property
    def charges(self) -> dict[str, tuple[float, float]]:
        """User -> (hours, dollars) of all jobs that were forgotten."""
        return self._all.charges

    def add_to(self, counts: Counter[str], arrays: Mapping[str, Array]) -> None:
        """After a start: what is counted from the jobs that are known gets the others as well."""
        counts.update(self._all.counts)
        for name, tally in self._tallies.items():
            array = arrays.get(name)
            if array is not None:
                array.forgotten = tally
                array.counts.update(tally.counts)

    def add(self, job: Job, array: Array | None) -> None:
        """`array`: the job's, if it has other members."""
        self._all.add(job)
        if job.tried:
            self._all.charge(user_of(job), *charge_of(job, job.ended or 0.0))
        if array is not None:
            self._tallies[array.id] = array.forgotten
        elif job.array_id:
            self._tallies.pop(job.array_id, None)

    def records(self, array_ids: Collection[str]) -> list[Statement]:
        """Writes down the tally of the cluster and those of these arrays."""
        return [self._record(name) for name in {CLUSTER, *array_ids}]

    def _record(self, name: str) -> Statement:
        tally = self._tallies.get(name)
        if tally is None:
            return statement("DELETE FROM forgotten WHERE name = ?", (name,))
        body = {"counts": tally.counts, "failure": tally.failure, "charges": tally.charges}
        return statement("INSERT OR REPLACE INTO forgotten VALUES (?,?)", (name, json.dumps(body)))


def _tally(body: str) -> Tally:
    data = json.loads(body)
    failure = Failure(*data["failure"]) if data["failure"] else None
    return Tally(Counter(data["counts"]), failure, {user: (h, d) for user, (h, d) in data["charges"].items()})
