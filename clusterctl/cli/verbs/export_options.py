"""What `export kuberay` is told: the options as people write them, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli.durations import duration
from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile
    from clusterctl.kuberay.options import Carried, Options, Queue, SecretRef, Volume
    from clusterctl.kuberay.work import Work
    from clusterctl.spec.model import ClusterSpec

MOST_BYTES = 900 * 1024  # of files in a ConfigMap, which is an object of 1 MiB at most

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.", show_default=False)]
Target = Annotated[str, typer.Option(metavar="NAME", help="Whose Kubernetes: generic, gke, eks or aks.")]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="Of the objects.", show_default=False)]
Image = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Of all pods, with what nodes would install [default: Ray's own].", show_default=False
    ),
]
SetupAtStart = Annotated[bool, typer.Option("--setup-at-start", help="Let each pod run `setup` before Ray starts.")]
GpuLabel = Annotated[
    str, typer.Option(metavar="KEY=VALUE", help="Of nodes with the GPU that the pools want.", show_default=False)
]
Claim = Annotated[
    list[str] | None,
    typer.Option(metavar="/PATH=NAME", help="A PersistentVolumeClaim, and where pods have it.", show_default=False),
]
Pvc = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:/PATH[:SIZE[:CLASS]]",
        help="Likewise; with a size it is written, too, as ReadWriteMany.",
        show_default=False,
    ),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(metavar="VARIABLE=SECRET/KEY", help="Where a variable's value is.", show_default=False),
]
Redis = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT[,SECRET/KEY]", help="Where Ray's head keeps its state; its password.", show_default=False
    ),
]
Prometheus = Annotated[str, typer.Option(metavar="WAY", help="How it finds the pods: none, annotations, podmonitor.")]
KueueQueue = Annotated[str, typer.Option(metavar="NAME", help="Wait in this LocalQueue of Kueue.", show_default=False)]
KueuePriority = Annotated[
    str, typer.Option(metavar="NAME", help="With this WorkloadPriorityClass.", show_default=False)
]
KueueElastic = Annotated[
    bool, typer.Option("--kueue-elastic", help="Kueue has elastic jobs: let the cluster grow and shrink.")
]
Quota = Annotated[bool, typer.Option("--quota", help="Add a ResourceQuota with limits.nodes and limits.gpus.")]
Policy = Annotated[
    bool, typer.Option("--network-policy", help="Add NetworkPolicies that keep other pods off the cluster's.")
]
Entrypoint = Annotated[
    str, typer.Option(metavar="COMMAND", help="Make it a RayJob, whose cluster ends with it.", show_default=False)
]
Env = Annotated[list[str] | None, typer.Option(metavar="K=V", help="Set for that job alone.", show_default=False)]
Cpus = Annotated[float, typer.Option(min=0, metavar="X", help="CPUs of the job's own process.", show_default=False)]
Gpus = Annotated[float, typer.Option(min=0, metavar="X", help="GPUs of it.", show_default=False)]
Resource = Annotated[
    list[str] | None, typer.Option(metavar="K=V", help="Custom resources of it; repeat for more.", show_default=False)
]
MaxRetries = Annotated[int, typer.Option(min=0, metavar="N", help="Further tries of the job, each on a new cluster.")]
Timeout = Annotated[
    str,
    typer.Option(
        metavar="DURATION", help="End the job after so long, its cluster's start included.", show_default=False
    ),
]
Ttl = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="How long the cluster stays after the job [default: lifetime.after_last_job, else 5m].",
        show_default=False,
    ),
]
Schedule = Annotated[
    str, typer.Option(metavar="CRON", help="Make the job a RayCronJob, as in '0 3 * * *'.", show_default=False)
]
TimeZone = Annotated[
    str, typer.Option(metavar="NAME", help="Of the schedule, as in Europe/Berlin.", show_default=False)
]
Serve = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Make it a RayService with this config file of Serve.", show_default=False),
]
Lossy = Annotated[bool, typer.Option("--lossy", help="Leave out what cannot be said, and warn of it.")]


@dataclass(frozen=True)
class Told:
    """Of the cluster."""

    target: str
    namespace: str
    image: str
    setup_at_start: bool
    gpu_label: str
    claim: Sequence[str]
    pvc: Sequence[str]
    secret: Sequence[str]
    redis: str
    prometheus: str
    kueue: tuple[str, str, bool]
    quota: bool
    network_policy: bool

    def options(self, read: SpecFile, work: ToldOfWork) -> Options:
        """Raises UsageError."""
        from clusterctl.kuberay.options import PROMETHEUS, Options
        from clusterctl.kuberay.platforms import platforms

        _one_of("--target", self.target, tuple(platforms()))
        _one_of("--prometheus", self.prometheus, PROMETHEUS)
        secrets = [_pair("--secret", one, "VARIABLE=SECRET/KEY") for one in self.secret]
        return Options(
            target=self.target,
            image=self.image,
            namespace=self.namespace,
            gpu_label=_pair("--gpu-label", self.gpu_label, "KEY=VALUE") if self.gpu_label else None,
            claims=dict(_pair("--claim", one, "/PATH=NAME") for one in self.claim),
            volumes=tuple(_volume(one) for one in self.pvc),
            secrets={name: _secret("--secret", ref) for name, ref in secrets},
            redis=_redis(self.redis),
            prometheus=self.prometheus,
            for_a_job=bool(work.entrypoint),
            by_clock=bool(work.schedule),
            serving=work.serve is not None,
            files=_files(read),
            queue=self._queue(),
            setup_at_start=self.setup_at_start,
            quota=self.quota,
            network_policy=self.network_policy,
        )

    def _queue(self) -> Queue | None:
        from clusterctl.kuberay.options import Queue

        name, priority, elastic = self.kueue
        if not name and (priority or elastic):
            option = "--kueue-priority" if priority else "--kueue-elastic"
            raise UsageError(f"{option} is of a queue: say --kueue-queue NAME")
        return Queue(name, priority, elastic) if name else None


@dataclass(frozen=True)
class ToldOfWork:
    """Of what the cluster is made for."""

    entrypoint: str
    env: Sequence[str]
    needs: tuple[float, float, Sequence[str]]  # CPUs, GPUs, others
    max_retries: int
    timeout: str
    ttl: str
    schedule: str
    time_zone: str
    serve: Path | None

    def work(self, spec: ClusterSpec) -> Work | None:
        """None for the cluster alone. Raises UsageError."""
        from clusterctl.cli.verbs.submit import parse_env, parse_resources
        from clusterctl.kuberay.secrets import NAME, is_secret
        from clusterctl.kuberay.work import TTL_SECONDS, Job, Serving

        self._check()
        if self.serve is not None:
            return Serving(_serving(self.serve))
        if not self.entrypoint:
            return None
        given = parse_env(list(self.env))
        if open_secret := next((name for name in given if NAME.search(name) or is_secret(given[name])), ""):
            raise UsageError(
                f"--env {open_secret}: whoever may read the object would see it: say --secret {open_secret}=SECRET/KEY"
            )
        if is_secret(self.entrypoint):
            raise UsageError(
                "--entrypoint looks as if it had a secret in it, which whoever may read the object would see"
            )
        stays = duration("--ttl", self.ttl) if self.ttl else spec.lifetime.after_last_job
        return Job(
            self.entrypoint,
            self.max_retries,
            duration("--timeout", self.timeout, some=True) if self.timeout else None,
            TTL_SECONDS if stays is None else stays,
            self.schedule.strip(),
            self.time_zone,
            given,
            *self.needs[:2],
            parse_resources(list(self.needs[2])),
        )

    def _check(self) -> None:
        of_jobs = {
            "--env": self.env, "--cpus": self.needs[0], "--gpus": self.needs[1], "--resource": self.needs[2],
            "--max-retries": self.max_retries, "--timeout": self.timeout, "--ttl": self.ttl,
            "--schedule": self.schedule,
        }  # fmt: skip
        if not self.entrypoint and (meant := [name for name, given in of_jobs.items() if given]):
            raise UsageError(f"{meant[0]} is of a job: say --entrypoint COMMAND")
        if self.time_zone and not self.schedule:
            raise UsageError("--time-zone is of a --schedule")
        if self.serve is not None and self.entrypoint:
            raise UsageError("--entrypoint and --serve: an object is a job or a service")
        if self.schedule and not re.fullmatch(
            r"(\S+ +){4}\S+|@(hourly|daily|weekly|monthly|yearly)", self.schedule.strip()
        ):
            raise UsageError(f"--schedule {self.schedule!r}: write five fields, as in '0 3 * * *', or @daily")


def _serving(path: Path) -> str:
    """Serve's config file. Raises UsageError."""
    from clusterctl.kuberay.work import serving_fault

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if fault := serving_fault(text):
        raise UsageError(f"{path}: {fault}")
    return text


def _files(read: SpecFile) -> dict[int, Carried | str]:
    """The `files` of a spec that a ConfigMap can hold, or why it cannot. Raises UsageError where there is no such file."""
    from clusterctl.client.up.files import mount_of

    found: dict[int, Carried | str] = {}
    room = MOST_BYTES
    for index, entry in enumerate(read.spec.files):
        try:
            tree = mount_of(read.path.absolute().parent, entry.source, entry.to)
        except UsageError as error:
            raise UsageError(str(read.located.fault(("files", index, "from"), str(error)))) from error
        size = sum(one.size for one in tree.tree.entries)
        room -= size
        if room < 0:
            found[index] = f"a ConfigMap holds {MOST_BYTES // 1024} KiB, and the files have more with this one"
            room += size
        else:
            found[index] = _texts(tree.kind == "file", {one.path: one.source for one in tree.tree.entries})
    return found


def _texts(alone: bool, sources: dict[str, Path]) -> Carried | str:
    from clusterctl.kuberay.options import Carried
    from clusterctl.kuberay.secrets import is_secret

    texts: dict[str, str] = {}
    for path, source in sources.items():
        if path.endswith("/"):
            continue  # an empty directory
        try:
            text = source.read_bytes().decode()
        except UnicodeDecodeError:
            return f"{source.name} is no text, and a ConfigMap holds text"
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror}") from error
        if is_secret(text):
            return (
                f"{source.name} looks as if it had a secret in it, and everybody who may read a ConfigMap would see it"
            )
        texts["" if alone else path] = text
    return Carried(texts)


def _volume(text: str) -> Volume:
    from clusterctl.kuberay.options import Volume
    from clusterctl.spec.units import parse_size

    name, path, size, storage_class, *more = [*text.split(":"), "", "", ""]
    if not name or not path.startswith("/") or any(more):
        raise UsageError(f"--pvc {text}: write NAME:/PATH, or NAME:/PATH:SIZE[:CLASS] to have it written, too")
    try:
        return Volume(name, path.rstrip("/"), parse_size(size) if size else None, storage_class)
    except ValueError as error:
        raise UsageError(f"--pvc {text}: {error}") from error


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} {value} is not known: write {', '.join(known)}")


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value) or (option == "--claim" and not name.startswith("/")):
        raise UsageError(f"{option} {text}: write {form}")
    return name, value


def _secret(option: str, text: str) -> SecretRef:
    from clusterctl.kuberay.options import SecretRef

    name, sign, key = text.partition("/")
    if not (name and sign and key):
        raise UsageError(f"{option} {text}: a Secret's value is written NAME/KEY")
    return SecretRef(name, key)


def _redis(text: str) -> tuple[str, SecretRef | None] | None:
    if not text:
        return None
    address, _, password = text.partition(",")
    if not re.fullmatch(r"[^\s:/]+:\d{1,5}", address):
        raise UsageError(f"--redis {text}: write HOST:PORT, or HOST:PORT,SECRET/KEY with a password")
    return address, _secret("--redis", password) if password else None
