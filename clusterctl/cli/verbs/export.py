"""`clusterctl export kuberay`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.verbs.image import OfPlaces
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.kuberay.options import Options, SecretRef
    from clusterctl.kuberay.work import Work
    from clusterctl.spec.faults import Fault, Finding
    from clusterctl.spec.model import ClusterSpec

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Write a spec in the words of KubeRay.

    \b
    Example:
      clusterctl export kuberay cluster.yaml | kubectl create -f -
    """


@app.command("kuberay")
@verb
def kuberay(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.", show_default=False)],
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Whose Kubernetes: generic, gke, eks or aks.")
    ] = "generic",
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Of the objects.", show_default=False)] = "",
    image: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of all pods, with what nodes would install [default: Ray's own].", show_default=False
        ),
    ] = "",
    gpu_label: Annotated[
        str, typer.Option(metavar="KEY=VALUE", help="Of nodes with the GPU that the pools want.", show_default=False)
    ] = "",
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="/PATH=NAME", help="A PersistentVolumeClaim, and where pods have it.", show_default=False),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIABLE=SECRET/KEY", help="Where a variable's value is.", show_default=False),
    ] = None,
    redis: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT[,SECRET/KEY]", help="Where Ray's head keeps its state; its password.", show_default=False
        ),
    ] = "",
    prometheus: Annotated[
        str, typer.Option(metavar="WAY", help="How it finds the pods: none, annotations, podmonitor.")
    ] = "none",
    entrypoint: Annotated[
        str, typer.Option(metavar="COMMAND", help="Make it a RayJob, whose cluster ends with it.", show_default=False)
    ] = "",
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Set for that job alone.", show_default=False)
    ] = None,
    max_retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="Further tries of the job, each on a new cluster.")
    ] = 0,
    timeout: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="End the job after so long, its cluster's start included.", show_default=False
        ),
    ] = "",
    ttl: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long the cluster stays after the job [default: lifetime.after_last_job, else 5m].",
            show_default=False,
        ),
    ] = "",
    schedule: Annotated[
        str, typer.Option(metavar="CRON", help="Make the job a RayCronJob, as in '0 3 * * *'.", show_default=False)
    ] = "",
    time_zone: Annotated[
        str, typer.Option(metavar="NAME", help="Of the schedule, as in Europe/Berlin.", show_default=False)
    ] = "",
    serve: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make it a RayService with this config file of Serve.", show_default=False),
    ] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="Leave out what cannot be said, and warn of it.")] = False,
    place: OfPlaces = "",
) -> None:
    """Write a spec as a RayCluster of KubeRay, for `kubectl create -f -` or `kubectl apply --server-side -f -`.

    With --entrypoint as a RayJob, with --schedule as a RayCronJob, with --serve as a RayService. What KubeRay cannot
    say is refused with its place; no value of a secret is in what is written.

    \b
    Examples:
      clusterctl export kuberay cluster.yaml --target gke > raycluster.yaml
      clusterctl export kuberay cluster.yaml --image registry.example/vision:1 --secret HF_TOKEN=hugging-face/token
      clusterctl export kuberay cluster.yaml --entrypoint "python train.py" --max-retries 2
      clusterctl export kuberay cluster.yaml --serve app.yaml
    """
    from clusterctl_providers.catalog.store import machine_types

    from clusterctl.kuberay.export import export, plain
    from clusterctl.kuberay.options import PROMETHEUS, Options
    from clusterctl.kuberay.platforms import platforms
    from clusterctl.kuberay.work import bring
    from clusterctl.spec.faults import SpecError

    _one_of("--target", target, tuple(platforms()))
    _one_of("--prometheus", prometheus, PROMETHEUS)
    options = Options(
        target=target,
        image=image,
        namespace=namespace,
        gpu_label=_pair("--gpu-label", gpu_label, "KEY=VALUE") if gpu_label else None,
        claims=dict(_pair("--claim", one, "/PATH=NAME") for one in claim or ()),
        secrets={
            name: _secret("--secret", ref) for name, ref in _pairs("--secret", secret or (), "VARIABLE=SECRET/KEY")
        },
        redis=_redis(redis),
        prometheus=prometheus,
        for_a_job=bool(entrypoint),
    )
    read = read_spec(spec, place)
    work = _work(
        read.spec, entrypoint=entrypoint, env=env or [], retries=max_retries, timeout=timeout, ttl=ttl,
        schedule=schedule, time_zone=time_zone, serve=serve,
    )  # fmt: skip
    made = export(read.spec, machine_types().values(), options)
    if made.refused and (not lossy or not made.documents):
        raise SpecError(_faults(read, made.refused))
    warnings = [str(fault) for fault in sorted(_faults(read, (*made.refused, *made.told)))]
    for warning in warnings:
        call.say(f"warning: {warning}")
    first, *others = made.documents
    documents = [plain(document) for document in (bring(first, work) if work else first, *others)]
    if call.json:
        output.write_json({"documents": documents, "warnings": warnings})
    else:
        output.write_line(_text(documents, warnings, options))


def _work(
    spec: ClusterSpec,
    *,
    entrypoint: str,
    env: list[str],
    retries: int,
    timeout: str,
    ttl: str,
    schedule: str,
    time_zone: str,
    serve: Path | None,
) -> Work | None:
    """What the cluster is made for; None for the cluster alone."""
    from clusterctl.cli.verbs.submit import parse_env
    from clusterctl.kuberay.losses import SECRET
    from clusterctl.kuberay.work import TTL_SECONDS, Job, Serving

    of_jobs = {"--env": env, "--max-retries": retries, "--timeout": timeout, "--ttl": ttl, "--schedule": schedule}
    if not entrypoint and (meant := [name for name, given in of_jobs.items() if given]):
        raise UsageError(f"{meant[0]} is of a job: say --entrypoint COMMAND")
    if time_zone and not schedule:
        raise UsageError("--time-zone is of a --schedule")
    if serve is not None:
        if entrypoint:
            raise UsageError("--entrypoint and --serve: an object is a job or a service")
        return Serving(_serving(serve))
    if not entrypoint:
        return None
    given = parse_env(env)
    if open_secret := next((name for name in given if SECRET.search(name)), ""):
        raise UsageError(
            f"--env {open_secret}: whoever may read the object would see it: say --secret {open_secret}=SECRET/KEY"
        )
    if schedule and not re.fullmatch(r"(\S+ +){4}\S+|@(hourly|daily|weekly|monthly|yearly)", schedule.strip()):
        raise UsageError(f"--schedule {schedule!r}: write five fields, as in '0 3 * * *', or @daily")
    stays = duration("--ttl", ttl) if ttl else spec.lifetime.after_last_job
    return Job(
        entrypoint,
        retries,
        duration("--timeout", timeout, some=True) if timeout else None,
        TTL_SECONDS if stays is None else stays,
        schedule.strip(),
        time_zone,
        given,
    )


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


def _faults(read: SpecFile, findings: Iterable[Finding]) -> list[Fault]:
    return [read.located.fault(one.path, one.message, one.suggestion, one.at_key) for one in findings]


def _text(documents: list[dict[str, Any]], warnings: list[str], options: Options) -> str:
    import yaml

    comments = [f"# For KubeRay 1.7 or newer; made by clusterctl for {options.target} clusters of Kubernetes."]
    comments += [f"# Not as in the spec: {' '.join(warning.split())}" for warning in warnings]
    whole = yaml.safe_dump_all(documents, sort_keys=False, width=120, allow_unicode=True)
    return "\n".join(comments) + "\n" + whole.rstrip("\n")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} {value} is not known: write {', '.join(known)}")


def _pairs(option: str, texts: Iterable[str], form: str) -> list[tuple[str, str]]:
    return [_pair(option, text, form) for text in texts]


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
