"""A good document of each kind, with something in it of all that the tests spoil, and how to spoil it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ABSENT = object()  # planted: takes what is there away


@cache
def samples() -> dict[str, list[dict[str, Any]]]:
    """KubeRay's own manifests by the names of their files. They are shared: do not change them."""
    return json.loads(gzip.decompress(Path(__file__).with_name("samples.json.gz").read_bytes()))["files"]


def example(kind: str) -> dict[str, Any]:
    version = "monitoring.coreos.com/v1" if kind == "PodMonitor" else "ray.io/v1"
    head = {"apiVersion": version, "kind": kind, "metadata": {"name": "fleet", "labels": {"team": "vision"}}}
    return json.loads(json.dumps({**head, "spec": _SPECS[kind]}))


def planted(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """An example with the value at each path changed, as `spec.workerGroupSpecs[0].groupName`. A key with dots stands in quotes;
    what is missing on the way is made."""
    document = example(kind)
    for path, value in changes.items():
        *way, last = _parts(path)
        place: Any = document
        for part in way:
            place = place.setdefault(part, {}) if isinstance(part, str) else place[part]
        if value is ABSENT:
            del place[last]
        elif isinstance(place, list) and last == len(place):
            place.append(value)
        else:
            place[last] = value
    return document


def _parts(path: str) -> Iterator[str | int]:
    for quoted, plain, number in re.findall(r'"([^"]+)"|([^.\[\]"]+)|\[(\d+)\]', path):
        yield int(number) if number else quoted or plain


def _template(kind: str) -> dict[str, Any]:
    amounts = {"cpu": 4, "memory": "16Gi", "nvidia.com/gpu": 1}
    container = {
        "name": f"ray-{kind}",
        "image": "rayproject/ray:2.60.0-py312-gpu",
        "env": [
            {"name": "MODE", "value": "fast"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
        ],
        "ports": [{"containerPort": 6379, "name": "gcs"}, {"containerPort": 8265, "name": "dashboard"}],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    return {"metadata": {"labels": {"app": "fleet"}}, "spec": {"containers": [container], "volumes": volumes}}


_CLUSTER = {
    "rayVersion": "2.60.0",
    "enableInTreeAutoscaling": True,
    "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 60},
    "authOptions": {"mode": "token"},
    "headGroupSpec": {
        "rayStartParams": {"dashboard-host": "0.0.0.0"},
        "resources": {"CPU": "0"},
        "template": _template("head"),
    },
    "workerGroupSpecs": [
        {
            "groupName": "gpu",
            "replicas": 1,
            "minReplicas": 1,
            "maxReplicas": 4,
            "idleTimeoutSeconds": 300,
            "priority": 10,
            "rayStartParams": {},
            "resources": {"CPU": "4", "GPU": "1", "memory": "12Gi"},
            "labels": {"ray.io/market-type": "spot"},
            "template": _template("worker"),
        }
    ],
}
_RULE = {"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 60}}
_JOB = {"entrypoint": "python train.py", "shutdownAfterJobFinishes": True, "rayClusterSpec": _CLUSTER}
_SPECS: dict[str, dict[str, Any]] = {
    "RayCluster": _CLUSTER,
    "RayJob": {
        "entrypoint": "python train.py",
        "runtimeEnvYAML": "env_vars: {MODE: fast}",
        "entrypointNumCpus": 0.5,
        "deletionStrategy": {"deletionRules": [_RULE]},
        "rayClusterSpec": _CLUSTER,
    },
    "RayService": {
        "serveConfigV2": "applications: [{name: app, import_path: app.main}]",
        "rayClusterConfig": _CLUSTER,
        "upgradeStrategy": {
            "type": "NewClusterWithIncrementalUpgrade",
            "clusterUpgradeOptions": {"gatewayClassName": "istio", "intervalSeconds": 10, "stepSizePercent": 20},
        },
    },
    "RayCronJob": {"schedule": "*/5 0-6,22 * JAN mon-FRI", "timeZone": "Europe/Berlin", "jobTemplate": _JOB},
    "PodMonitor": {
        "selector": {"matchLabels": {"ray.io/node-type": "head"}},
        "podMetricsEndpoints": [
            {"port": "metrics", "interval": "15s", "relabelings": [{"sourceLabels": ["a"], "targetLabel": "b"}]},
        ],
    },
}
