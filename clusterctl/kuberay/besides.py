"""What stands beside a RayCluster: files, claims, a quota, a network policy."""

from __future__ import annotations

from typing import Any

from clusterctl.kuberay.options import Carried, Options
from clusterctl.kuberay.shapes import quantity
from clusterctl.spec.model import ClusterSpec

Object = dict[str, Any]
PART_OF = "app.kubernetes.io/part-of"  # our label of all pods: the operator's own has a name that it makes up for a job's cluster
FILES = "/clusterctl/files"  # what $CLUSTERCTL_FILES is in pods
_HOME = "/home/ray"  # in Ray's public images
_DASHBOARD, _SERVE = 8265, 8000
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def files_name(spec: ClusterSpec) -> str:
    """Of the ConfigMap."""
    return f"{spec.cluster}-files"


def target(to: str, options: Options) -> str:
    """Where pods have an entry of `files`; "" where that is not known, since the home in an image of one's own is not."""
    if to.startswith("/"):
        return to.rstrip("/")
    if to.startswith("~/"):
        return "" if options.image else f"{_HOME}/{to[2:].rstrip('/')}"
    return f"{FILES}/{to.rstrip('/')}"


def carried(spec: ClusterSpec, options: Options) -> dict[int, Carried]:
    """The entries of `files` that come along, by their index."""
    return {
        index: found
        for index, entry in enumerate(spec.files)
        if isinstance(found := options.files.get(index), Carried) and target(entry.to, options)
    }


def file_volumes(spec: ClusterSpec, options: Options) -> dict[str, tuple[str, Object, Object]]:
    """By the path in the containers: (name, what it is, more of its mount). A single file does not hide its neighbours."""
    found: dict[str, tuple[str, Object, Object]] = {}
    for index, entry in carried(spec, options).items():
        items = [
            {"key": _key(index, number), "path": path or "file"} for number, path in enumerate(sorted(entry.texts))
        ]
        alone = {"subPath": "file"} if "" in entry.texts else {}
        source = {"configMap": {"name": files_name(spec), "items": items}}
        found[target(spec.files[index].to, options)] = (f"files-{index}", source, {"readOnly": True, **alone})
    return found


def _key(index: int, number: int) -> str:
    """Of a file in the ConfigMap, whose keys have no slashes."""
    return f"{index}-{number}"


def besides(spec: ClusterSpec, metadata: Object, options: Options) -> list[Object]:
    """`metadata`: the RayCluster's."""
    found = [_claim(one.name, one.size, one.storage_class, metadata) for one in options.volumes if one.size is not None]
    if entries := carried(spec, options):
        texts = {
            _key(index, number): entry.texts[path]
            for index, entry in entries.items()
            for number, path in enumerate(sorted(entry.texts))
        }
        found.append({**_head("v1", "ConfigMap", files_name(spec), metadata), "data": texts})
    if options.quota:
        found.append(_quota(spec, metadata, options))
    if options.network_policy:
        found += [_between_pods(spec, metadata), _to_the_head(spec, metadata)]
        if options.serving:
            found.append(_to_applications(spec, metadata))
    return found


def _head(version: str, kind: str, name: str, metadata: Object) -> Object:
    named = {**metadata, "name": name}
    del named["annotations"]
    own = {key: value for key, value in metadata["labels"].items() if not key.startswith("kueue")}
    return {"apiVersion": version, "kind": kind, "metadata": {**named, "labels": own}}


def _claim(name: str, size: int, storage_class: str, metadata: Object) -> Object:
    spec: Object = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": quantity(size)}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return {**_head("v1", "PersistentVolumeClaim", name, metadata), "spec": spec}


def _quota(spec: ClusterSpec, metadata: Object, options: Options) -> Object:
    hard: dict[str, str] = {}
    if spec.limits.nodes is not None:
        hard["pods"] = str(spec.limits.nodes + (1 if options.for_a_job else 0))  # one that submits the job
    if spec.limits.gpus is not None:
        hard["requests.nvidia.com/gpu"] = str(int(spec.limits.gpus))
    return {**_head("v1", "ResourceQuota", f"{spec.cluster}-limits", metadata), "spec": {"hard": hard}}


# ---------------------------------------------------------------- who may connect


def _policy(spec: ClusterSpec, name: str, metadata: Object, selector: dict[str, str], ingress: list[Object]) -> Object:
    body = {
        "podSelector": {"matchLabels": {PART_OF: spec.cluster, **selector}},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
    return {**_head("networking.k8s.io/v1", "NetworkPolicy", f"{spec.cluster}-{name}", metadata), "spec": body}


def _between_pods(spec: ClusterSpec, metadata: Object) -> Object:
    """Ray's nodes reach each other on all ports, and nobody else reaches them."""
    same = {"podSelector": {"matchLabels": {PART_OF: spec.cluster}}}
    return _policy(spec, "pods", metadata, {}, [{"from": [same]}])


def _to_the_head(spec: ClusterSpec, metadata: Object) -> Object:
    """The operator asks the head how jobs and applications are; pods of the namespace submit jobs there, with a token."""
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(_OPERATOR)}}
    ports = [{"protocol": "TCP", "port": _DASHBOARD}]
    return _policy(
        spec,
        "head",
        metadata,
        {"ray.io/node-type": "head"},
        [{"from": [{"podSelector": {}}, operator], "ports": ports}],
    )


def _to_applications(spec: ClusterSpec, metadata: Object) -> Object:
    return _policy(spec, "applications", metadata, {}, [{"ports": [{"protocol": "TCP", "port": _SERVE}]}])
