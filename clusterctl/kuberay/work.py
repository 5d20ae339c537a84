"""What a RayCluster is made for: a job, a job by the clock, applications of Ray Serve. Each brings the cluster with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.errors import UsageError

Object = dict[str, Any]
LONGEST = {
    "RayJob": 47,
    "RayService": 47,
    "RayCronJob": 36,
}  # of a name, from which those of the cluster's parts are made
TTL_SECONDS = 300.0  # that a cluster stays after its job, so that its logs can be read


@dataclass(frozen=True)
class Job:
    """`entrypoint`: a command line. `retries`: further tries, each with a cluster of its own. `timeout`, `ttl`: seconds; the
    first counts from the start of the cluster. `schedule`: five fields of cron, "" for now; `time_zone`: of the IANA database.
    `env` is of the job alone; `cpus`, `gpus`, `resources`: what its own process takes, of a worker."""

    entrypoint: str
    retries: int = 0
    timeout: float | None = None
    ttl: float = TTL_SECONDS
    schedule: str = ""
    time_zone: str = ""
    env: dict[str, str] = field(default_factory=dict[str, str])
    cpus: float = 0.0
    gpus: float = 0.0
    resources: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Serving:
    """`config`: Serve's own file, as text."""

    config: str


Work = Job | Serving


def bring(cluster: Object, work: Work) -> Object:
    """The object in the place of its RayCluster. Raises UsageError where the name is too long for it."""
    if isinstance(work, Serving):
        return _object("RayService", cluster, {"serveConfigV2": work.config, "rayClusterConfig": cluster["spec"]})
    spec = _job(work, cluster["spec"])
    if not work.schedule:
        return _object("RayJob", cluster, spec)
    zone = {"timeZone": work.time_zone} if work.time_zone else {}
    return _object("RayCronJob", cluster, {"schedule": work.schedule, **zone, "jobTemplate": spec})


def _object(kind: str, cluster: Object, spec: Object) -> Object:
    name = cluster["metadata"]["name"]
    if len(name) > LONGEST[kind]:
        raise UsageError(f"the name of a {kind} has at most {LONGEST[kind]} characters, and {name} has {len(name)}")
    return {"apiVersion": cluster["apiVersion"], "kind": kind, "metadata": cluster["metadata"], "spec": spec}


def _job(work: Job, cluster: Object) -> Object:
    made: Object = {"entrypoint": work.entrypoint}
    if work.env:
        made["runtimeEnvYAML"] = _runtime_env(work.env)
    if work.cpus:
        made["entrypointNumCpus"] = work.cpus
    if work.gpus:
        made["entrypointNumGpus"] = work.gpus
    if work.resources:
        made["entrypointResources"] = json.dumps(work.resources)
    made["shutdownAfterJobFinishes"] = True  # else its nodes are paid for until somebody looks
    made["ttlSecondsAfterFinished"] = int(work.ttl)
    if work.retries:
        made["backoffLimit"] = work.retries
    if work.timeout is not None:
        made["activeDeadlineSeconds"] = max(1, int(work.timeout))
    return {**made, "rayClusterSpec": cluster}


def _runtime_env(env: dict[str, str]) -> str:
    import yaml

    return yaml.safe_dump({"env_vars": env}, sort_keys=True)


def serving_fault(text: str) -> str:
    """Why pods could not serve by that config file of Serve's; "" where nothing is wrong with what they see of it."""
    import yaml

    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return f"it is no YAML: {error}"
    applications: Any = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not applications:
        return "it is no config file of Serve: it has no list of `applications`"
    for application in applications:
        if not isinstance(application, dict) or not application.get("import_path"):
            return "one of its applications has no `import_path`"
        runtime_env: Any = application.get("runtime_env") or {}
        for path in (runtime_env.get("working_dir"), *(runtime_env.get("py_modules") or ())):
            if path and "://" not in str(path):
                return (
                    f"pods do not have {path}, which is here: put the code into the image, or name an archive with an address "
                    "(https://..., s3://...)"
                )
    return ""
