"""`clusterctl export kuberay`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.verbs import export_options as given
from clusterctl.cli.verbs.image import OfPlaces
from clusterctl.client.specfile import SpecFile, read_spec

if TYPE_CHECKING:
    from clusterctl.kuberay.options import Options
    from clusterctl.spec.faults import Fault, Finding

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
    spec: given.Spec,
    target: given.Target = "generic",
    namespace: given.Namespace = "",
    image: given.Image = "",
    setup_at_start: given.SetupAtStart = False,
    gpu_label: given.GpuLabel = "",
    claim: given.Claim = None,
    pvc: given.Pvc = None,
    secret: given.Secret = None,
    redis: given.Redis = "",
    prometheus: given.Prometheus = "none",
    kueue_queue: given.KueueQueue = "",
    kueue_priority: given.KueuePriority = "",
    kueue_elastic: given.KueueElastic = False,
    quota: given.Quota = False,
    network_policy: given.Policy = False,
    entrypoint: given.Entrypoint = "",
    env: given.Env = None,
    cpus: given.Cpus = 0.0,
    gpus: given.Gpus = 0.0,
    resource: given.Resource = None,
    max_retries: given.MaxRetries = 0,
    timeout: given.Timeout = "",
    ttl: given.Ttl = "",
    schedule: given.Schedule = "",
    time_zone: given.TimeZone = "",
    serve: given.Serve = None,
    lossy: given.Lossy = False,
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
    from clusterctl.kuberay.work import bring
    from clusterctl.spec.faults import SpecError

    of_work = given.ToldOfWork(
        entrypoint, env or (), (cpus, gpus, resource or ()), max_retries, timeout, ttl, schedule, time_zone, serve
    )
    of_cluster = given.Told(
        target, namespace, image, setup_at_start, gpu_label, claim or (), pvc or (), secret or (), redis, prometheus,
        (kueue_queue, kueue_priority, kueue_elastic), quota, network_policy,
    )  # fmt: skip
    read = read_spec(spec, place)
    options, work = of_cluster.options(read, of_work), of_work.work(read.spec)
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


def _faults(read: SpecFile, findings: Iterable[Finding]) -> list[Fault]:
    return [read.located.fault(one.path, one.message, one.suggestion, one.at_key) for one in findings]


def _text(documents: list[dict[str, Any]], warnings: list[str], options: Options) -> str:
    import yaml

    comments = [f"# For KubeRay 1.7 or newer; made by clusterctl for {options.target} clusters of Kubernetes."]
    comments += [f"# Not as in the spec: {' '.join(warning.split())}" for warning in warnings]
    whole = yaml.safe_dump_all(documents, sort_keys=False, width=120, allow_unicode=True)
    return "\n".join(comments) + "\n" + whole.rstrip("\n")
