"""What clients may ask for, validated: unknown fields are refused, every figure has bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clusterctl_runtime.head.turns import in_turns

MAX_NODES = 10_000
MAX_ARRAY = 100_000  # jobs in one submission
MAX_REPLICAS = 1000  # of a service
MAX_BATCH = 10_000  # requests in one batch
MAX_BYTES = 1024 * 1024  # of one request: it goes to each node that it runs on, beside many others
_ONE_LINE = re.compile(r"[A-Za-z0-9][^\r\n]*")
Identifier = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]


class ReplicaOf(BaseModel):
    """What a job is a replica of, as the head says. `port`: where its program listens, 0 for one that is free on its node."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int
    port: int


class JobRequest(BaseModel):
    """One job, as submitted. `argv` is the command, or the arguments of `script`; `package` the digest of the packed working
    directory. `cpus`, `gpus`, `memory` (bytes) and `resources` are per rank; `nodes` ranks run on as many nodes as a gang;
    none means a plain program on one. `engine`: on nodes that run Ray it is told where that is; `needs_engine`: it goes to no
    others. `requirements`: lines of packages that are installed for it on each of its nodes.
    `after`: jobs or arrays that must have succeeded ("ID", "ID:ok") or ended ("ID:any") before it starts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    submission_id: Identifier = ""
    name: str = Field(default="", max_length=200)
    argv: list[str] = Field(default=[], max_length=10_000)
    package: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    script: str = Field(default="", max_length=1000)
    env: dict[str, str] = {}
    nodes: int | None = Field(default=None, ge=1, le=MAX_NODES)
    cpus: float | None = Field(default=None, ge=0, le=1e6)
    gpus: float = Field(default=0, ge=0, le=1e6)
    gpu_type: str = Field(default="", max_length=100)
    memory: int = Field(default=0, ge=0, le=2**60)
    resources: dict[str, Annotated[float, Field(ge=0, le=1e12)]] = {}
    pool: str = Field(default="", max_length=100)
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    user: str = Field(default="", max_length=200)
    max_retries: int | None = Field(default=None, ge=0, le=1000)
    timeout: float | None = Field(default=None, gt=0)
    engine: bool = True
    needs_engine: bool = False
    driver: bool = False
    array: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1, max_length=MAX_ARRAY)
    array_limit: int | None = Field(default=None, ge=1)
    requirements: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(default=[], max_length=10_000)
    after: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:(ok|any))?$")]] = Field(
        default=[], max_length=1000
    )
    runtime_env: dict[str, Any] = {}
    service: ReplicaOf | None = None

    @model_validator(mode="after")
    def _something_to_run(self) -> JobRequest:
        if not self.argv and not self.script:
            raise ValueError("nothing to run: give `argv`, or a `script` inside `package`")
        if self.script and not self.package:
            raise ValueError(f"script {self.script!r} needs the package (working directory) that it is in")
        if self.script.startswith("/") or ".." in self.script.split("/"):
            raise ValueError(f"script {self.script!r} is not in its package: give its path from the package's top")
        if any("\0" in part for part in [*self.argv, self.script, *self.env, *self.env.values(), *self.requirements]):
            raise ValueError("a NUL byte cannot be part of a command or an environment variable")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("the name of an environment variable is empty or contains '='")
        size = len(self.model_dump_json(exclude={"array"}).encode())
        if size > MAX_BYTES:
            raise ValueError(
                f"arguments, environment and runtime_env of a job may have {MAX_BYTES // 1024} KiB together, these have "
                f"{-(-size // 1024)}: put what is long into files of the working directory, which travels with the job"
            )
        if any(not _ONE_LINE.fullmatch(line) for line in self.requirements):
            raise ValueError(
                "a requirement is one line with a name, as in torch==2.13.0, and no option of an installer"
            )
        if self.driver and (self.nodes or 1) > 1:
            raise ValueError("a driver runs once, on the head node: leave out `driver` to run a gang on several nodes")
        return self


class ServiceRequest(BaseModel):
    """A new version of a service. `job` is what each of its replicas runs; `health` the path whose GET it answers with 2xx once
    it is well ("": it takes connections); `patience` the seconds that it has for that, `grace` those that open requests have
    when a replica leaves. `id` is the client's: said again, it is the same version. `replicas` None: as many as there are.
    `surge`: an update starts new replicas beside the old ones; else one old one leaves first each time."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: str = Field(min_length=8, max_length=64)
    job: JobRequest
    port: int = Field(default=0, ge=0, le=65535)
    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    health: str = Field(default="", pattern=r"^(/[!-~]*)?$", max_length=1000)
    patience: float = Field(default=600.0, gt=0, le=86400)
    grace: float = Field(default=60.0, ge=0, le=86400)
    surge: bool = True

    @model_validator(mode="after")
    def _a_plain_program(self) -> ServiceRequest:
        job = self.job
        odd = {"nodes": job.nodes, "array": job.array, "after": job.after, "timeout": job.timeout, "driver": job.driver}
        if given := [name for name, value in odd.items() if value]:
            raise ValueError(f"a replica of a service is a plain program that goes on: leave out {', '.join(given)}")
        if job.service is not None or job.submission_id:
            raise ValueError("what a replica is called is the head's: leave out `service` and `submission_id`")
        return self


class Scale(BaseModel):
    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(ge=0, le=MAX_REPLICAS)


class Batch(BaseModel):
    """`jobs` are JobRequests. They are validated one after the other, with others' turns between."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH)

    async def requests(self) -> list[JobRequest]:
        """Raises RequestValidationError with the place of each fault of the first faulty one."""
        found: list[JobRequest] = []
        async for part in in_turns(enumerate(self.jobs)):
            for number, job in part:
                try:
                    found.append(JobRequest.model_validate(job))
                except ValidationError as error:
                    place = ("body", "jobs", number)
                    raise RequestValidationError([{**e, "loc": (*place, *e["loc"])} for e in error.errors()]) from error
        return found


class PackedFile(BaseModel):
    """An entry of the spec's `files`, packed: `digest` names the blob, a zip of the one file or of the directory."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    source: str = Field(alias="from")
    to: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = 0
    kind: Literal["file", "directory"]


class SpecText(BaseModel):
    """`files`: one for each entry of the spec's `files`; left out, those in force stay."""

    model_config = ConfigDict(extra="forbid")

    yaml: str = Field(max_length=1024 * 1024)
    plan_digest: str = ""
    files: list[PackedFile] | None = None


class TicketText(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ticket: str = Field(max_length=200)


class WheelEntry(BaseModel):
    """One wheel of an engine environment, uploaded as a blob."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,300}\.whl$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=1, le=2**31)


class WheelList(BaseModel):
    """All wheels of an engine environment."""

    model_config = ConfigDict(extra="forbid")

    wheels: list[WheelEntry] = Field(min_length=1, max_length=2000)
