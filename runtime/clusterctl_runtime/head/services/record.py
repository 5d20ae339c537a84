"""A service as it is written down: what is wanted, its versions, and its replicas, each before it is started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clusterctl.core.errors import BadRequest, Refused
from clusterctl_runtime.head.jobs.requests import JobRequest, ServiceRequest
from clusterctl_runtime.head.storage.store import Statement, Store, statement

KEPT_VERSIONS = 10
KEPT_ENDS = 10


@dataclass(frozen=True)
class Version:
    """`asked` is the ServiceRequest, as JSON."""

    number: int
    created: float
    asked: dict[str, Any]

    @property
    def request(self) -> ServiceRequest:
        return ServiceRequest.model_validate(self.asked)


@dataclass
class Part:
    """One replica. `leaving`: why it gets no more requests, "" while it may; what it has open ends, at the latest at
    `leave_by` (unix seconds). `well`: the attempt of its job that was well once."""

    job: str
    version: int
    leaving: str = ""
    leave_by: float = 0.0
    well: str = ""


@dataclass
class Record:
    """`served`: numbers of versions that have proven themselves, the last one is the one that serves. `wanted`: the version to
    come, or the same, or 0 where there is none. `failure`: why the last one that was tried was given up."""

    name: str
    versions: list[Version] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    wanted: int = 0
    replicas: int = 1
    parts: list[Part] = field(default_factory=list)
    next_replica: int = 1
    next_version: int = 1
    ends: list[float] = field(default_factory=list)
    stopped: bool = False
    given_up: int = 0
    failure: str = ""
    failed_job: str = ""
    token: int = 1

    @property
    def current(self) -> int:
        """The version that serves, 0 for none."""
        return self.served[-1] if self.served else 0

    def version(self, number: int) -> Version:
        return next(version for version in self.versions if version.number == number)

    # ------------------------------------------------------------ what users want

    def ask(self, request: ServiceRequest, now: float) -> Version:
        """A new version; the same one where it was asked for before."""
        asked = request.model_dump()
        known = next((version for version in self.versions if version.asked["id"] == request.id), None)
        if known is not None:
            return known
        made = Version(self.next_version, now, asked)
        self.next_version += 1
        self.versions.append(made)
        if request.replicas is not None:
            self.replicas = request.replicas
        elif self.stopped or not self.served:
            self.replicas = max(self.replicas, 1)
        if self.stopped:
            self.served, self.stopped = [], False
        self._roll_to(made.number)
        self._forget_versions()
        return made

    def roll_back(self) -> int:
        """To the version that is still current during an update, else to the one before it. Returns its number; or raises
        Refused."""
        if self.stopped:
            raise Refused(f"service {self.name} is stopped: `clusterctl service run` starts it again")
        if self.wanted != self.current and self.served:
            self._roll_to(self.current)
        elif len(self.served) > 1:
            self._roll_to(self.served[-2])
        else:
            raise Refused(f"service {self.name} has no version before this one to go back to")
        return self.wanted

    def _roll_to(self, number: int) -> None:
        self.wanted, self.given_up, self.failure, self.failed_job = number, 0, "", ""

    def stop(self) -> None:
        """Its replicas leave. Its versions and its token stay."""
        self.stopped, self.wanted = True, 0

    # ------------------------------------------------------------ what becomes of it

    def promote(self) -> None:
        """The wanted version has proven itself. One that was served before is gone back to."""
        if self.wanted in self.served:
            self.served = self.served[: self.served.index(self.wanted)]
        self.served.append(self.wanted)
        self.ends = []
        del self.served[:-KEPT_VERSIONS]
        self._forget_versions()

    def _forget_versions(self) -> None:
        needed = {*self.served, self.wanted, self.given_up, *(part.version for part in self.parts)}
        self.versions = [version for version in self.versions if version.number in needed]

    def give_up(self, why: str, job: str) -> None:
        """The wanted version is no good: the current one stays, if there is one."""
        self.given_up, self.failure, self.failed_job, self.wanted = self.wanted, why, job, self.current

    def note_end(self, now: float) -> None:
        self.ends = [*self.ends, now][-KEPT_ENDS:]

    def new_part(self, version: int) -> Part:
        part = Part(f"{self.name}-v{version}-{self.next_replica}", version)
        self.next_replica += 1
        self.parts.append(part)
        return part

    def job_of(self, part: Part) -> JobRequest:
        """What a replica submits."""
        request = self.version(part.version).request
        name = f"service {self.name}, version {part.version}"
        replica = {"name": self.name, "version": part.version, "port": request.port}
        return JobRequest.model_validate(
            {**request.job.model_dump(), "submission_id": part.job, "name": name, "service": replica}
        )


def record_of(record: Record) -> Statement:
    """Writes it down."""
    return statement("INSERT OR REPLACE INTO services VALUES (?,?)", (record.name, json.dumps(asdict(record))))


def load_records(store: Store) -> dict[str, Record]:
    """All that are on disk, by name."""
    found: dict[str, Record] = {}
    for name, body in store.rows("SELECT name, body FROM services"):
        data = json.loads(body)
        data["versions"] = [Version(**item) for item in data["versions"]]
        data["parts"] = [Part(**item) for item in data["parts"]]
        found[name] = Record(**data)
    return found


def packages_of(records: Sequence[Record]) -> set[str]:
    """Digests of what their versions run in: a rollback needs it again."""
    return {str(v.asked["job"]["package"]) for record in records for v in record.versions if v.asked["job"]["package"]}


def check_name(name: str) -> None:
    """Raises BadRequest for one that cannot be part of an address and of a job's id."""
    if not (0 < len(name) <= 40 and name[0].isalpha() and name.isascii() and name.islower() and _is_plain(name)):
        raise BadRequest(
            f"a service's name is a lower-case letter and up to 39 letters, digits or dashes: not {name!r}"
        )


def _is_plain(name: str) -> bool:
    return name.replace("-", "").isalnum() and not name.endswith("-")
