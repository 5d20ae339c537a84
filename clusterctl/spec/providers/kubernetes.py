"""`provider: kubernetes`: pods in a namespace of a cluster of Kubernetes."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clusterctl.spec.base import Size, SpecModel
from clusterctl.spec.faults import shorten
from clusterctl.spec.providers.clouds import CLOUDS
from clusterctl.spec.providers.form import Form
from clusterctl.spec.providers.kind import Account, Kind, Kubernetes, Library, Search

# By NVIDIA's GPU feature discovery, on nodes of any cluster that runs it.
DISCOVERED = Kubernetes(
    "generic",
    gpu_label="nvidia.com/gpu.product",
    gpus={
        "A10": "NVIDIA-A10",
        "A100-40GB": "NVIDIA-A100-SXM4-40GB",
        "A100-80GB": "NVIDIA-A100-SXM4-80GB",
        "A10G": "NVIDIA-A10G",
        "H100": "NVIDIA-H100-80GB-HBM3",
        "H200": "NVIDIA-H200",
        "L4": "NVIDIA-L4",
        "L40S": "NVIDIA-L40S",
        "T4": "Tesla-T4",
    },
)

_PART = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMES = "lower-case letters, digits and '-', with a letter or digit at both ends"
NAMESPACE = Form(_PART, "namespace", _NAMES)
NAME = Form(rf"{_PART}(?:\.{_PART})*", "name of Kubernetes", f"{_NAMES}; dots divide it")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:{_PART}(?:\.{_PART})*/)?{_LABEL}")
_VALUE = re.compile(rf"(?:{_LABEL})?")

Name = Annotated[str, BeforeValidator(NAME.read)]


def _read_selector(value: Any) -> Any:
    for key, wanted in value.items() if isinstance(value, dict) else ():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(
                f"{shorten(key)} is not a label of Kubernetes: write one as in topology.kubernetes.io/zone"
            )
        if isinstance(wanted, str) and not _VALUE.fullmatch(wanted):
            raise ValueError(
                f"{shorten(wanted)} is not a label's value: it has up to 63 letters, digits, '-', '_' and '.'"
            )
        if not isinstance(wanted, str):
            raise ValueError(f'the value of {key} is text: write "{str(wanted).lower()}" in quotes')
    return value


Selector = Annotated[dict[str, str], BeforeValidator(_read_selector)]


_OURS = re.compile(r"clusterctl-.*|app\.kubernetes\.io/managed-by")
_OURS_OF_SPEC = {
    "restartPolicy": "a node whose agent has ended is another node",
    "nodeName": "the scheduler has to see what fits there: write `node_selector` in the pool",
}


def _read_pod(pod: Any) -> Any:
    """Kubernetes' own rules are Kubernetes' to check; here is what it would take, and no node would come of it."""
    _check_finite(pod, "")
    parts = {"metadata", "spec"}
    if not isinstance(pod, dict) or not pod.keys() <= parts or not all(isinstance(one, dict) for one in pod.values()):
        raise ValueError("a pod's keys here are `metadata` and `spec`, both mappings")
    for key, value in pod.get("metadata", {}).items():
        if key not in ("labels", "annotations"):
            raise ValueError(
                f"metadata.{key} is clusterctl's to write: a pod's `labels` and `annotations` may be added to"
            )
        for name, text in value.items() if isinstance(value, dict) else [("", None)]:
            if not isinstance(text, str):
                raise ValueError(f"metadata.{key} maps names to text: write numbers and true in quotes")
            if _OURS.fullmatch(name):
                raise ValueError(f"metadata.{key}: {shorten(name)} is clusterctl's own: by it nodes are found")
    spec = pod.get("spec", {})
    for key, why in _OURS_OF_SPEC.items():
        if key in spec:
            raise ValueError(f"spec.{key} is clusterctl's to write: {why}")
    containers = spec.get("containers")
    for one in containers if isinstance(containers, list) else ():
        if isinstance(one, dict) and one.get("name") == "node" and {"command", "args"} & one.keys():
            raise ValueError(
                "the container `node` runs clusterctl's agent: what has to run before it goes under `setup`"
            )
    return pod


def _check_finite(value: Any, path: str) -> None:
    """YAML has a number that no API server can be told."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_finite(inner, f"{path}[{number}]")
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{path} is {value}, which no API server takes")


class Toleration(SpecModel):
    """A taint of nodes that pods may run in spite of."""

    key: str = Field(default="", description="Key of the taint; default: any.", examples=["nvidia.com/gpu"])
    operator: Literal["Equal", "Exists"] | None = Field(
        default=None, description="`Exists` takes any value; default: that where no `value` is given, else `Equal`."
    )
    value: str = Field(default="", description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Effect of the taint; default: any."
    )
    seconds: int | None = Field(
        default=None, ge=0, description="With `NoExecute`, so long it is tolerated; default: for ever."
    )


class Claim(SpecModel):
    """A PersistentVolumeClaim of the namespace."""

    claim: Name = Field(
        description="Name of the claim. More than one node needs one that is ReadWriteMany or ReadOnlyMany."
    )
    to: str = Field(description="Where nodes see it, as a whole path.", examples=["/data"], pattern=r"^/.+")
    read_only: bool = Field(default=False, description="Nodes read it only.")


class KubernetesSettings(SpecModel):
    """Nodes are pods, which dial the head; nothing else has to run in the cluster of Kubernetes."""

    context: str = Field(
        default="",
        description="Context of your kubeconfig (KUBECONFIG, or ~/.kube/config); default: the current one.",
        examples=["gke_my-project_us-central1_my-cluster"],
    )
    namespace: Annotated[str, BeforeValidator(NAMESPACE.read)] = Field(
        default="", description="Namespace, which is there already; default: that of the context."
    )
    image: str = Field(
        default="",
        description="Image of every node, unless a pool names its own; any with Python 3.10 or later will do.",
        examples=["python:3.12-slim"],
    )
    image_pull_secrets: list[Name] = Field(
        default=[], description="Secrets of the namespace that images are pulled with."
    )
    service_account: Name = Field(
        default="",
        description="Service account of the nodes, which gives jobs a cloud's rights by workload identity. Its token is not "
        "mounted. Default: that of the namespace.",
    )
    storage_class: Name = Field(
        default="", description="Storage class of what is made here; default: the cluster's own."
    )
    volumes: list[Claim] = Field(
        default=[],
        description="Claims that nodes mount.",
        examples=[[{"claim": "datasets", "to": "/data", "read_only": True}]],
    )
    pod: Annotated[dict[str, Any], BeforeValidator(_read_pod)] = Field(
        default={},
        description="Merged into each pod that is made: mappings key by key, lists of things with names by their names, other "
        "lists as a whole. Kubernetes itself checks it, before anything is made; the node's container is named `node`.",
        examples=[{"spec": {"hostIPC": False, "containers": [{"name": "node", "workingDir": "/work"}]}}],
    )
    runtime_class: Name = Field(default="", description="RuntimeClass of the pods, such as nvidia or gvisor.")
    priority_class: Name = Field(default="", description="PriorityClass of the pods.")
    kueue_queue: Name = Field(
        default="", description="LocalQueue of Kueue that pods wait in before they are scheduled; default: none."
    )
    head_volume: Size = Field(
        default=10 * 1024**3,
        description="Size of the claim with the head's state: its job queue, logs and uploaded files.",
    )
    head_service_account: Name = Field(
        default="",
        description="Service account of the head's pod, which may do what docs/kubernetes.md lists; default: one is made, with "
        "its Role.",
    )
    head_address: str = Field(
        default="",
        description="Address of this machine that pods reach. The head runs here then, and not in a pod of its own.",
        examples=["10.0.0.5"],
    )


# What NVIDIA's GPU feature discovery writes for a GPU, where that differs from the form that most machines have.
_OTHER_FORMS = {
    "A100-40GB": ("NVIDIA-A100-PCIE-40GB",),
    "A100-80GB": ("NVIDIA-A100-80GB-PCIe",),
    "H100": ("NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "L4": ("L4",),
    "T4": ("NVIDIA-T4",),
    "V100": ("Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB", "Tesla-V100-PCIE-16GB", "Tesla-V100-PCIE-32GB"),
    "B200": ("NVIDIA-B200",),
    "GH200": ("NVIDIA-GH200-480GB",),
}


def gpu_labels(name: str) -> dict[str, list[str]]:
    """Label of a node -> the values of which any says that it has GPUs of that name: whoever runs the cluster of Kubernetes
    writes one of these labels."""
    known = [DISCOVERED, *(kind.cloud.kubernetes for kind in CLOUDS if kind.cloud and kind.cloud.kubernetes)]
    found: dict[str, list[str]] = {}
    for platform in known:
        others = _OTHER_FORMS if platform is DISCOVERED else {}
        table = {key: (platform.gpus.get(key, ""), *others.get(key, ())) for key in {*platform.gpus, *others}}
        for key, values in sorted(table.items()):
            if platform.gpu_label and (key == name.upper() or key.startswith(f"{name.upper()}-")):
                found.setdefault(platform.gpu_label, []).extend(filter(None, values))
    return found


KIND = Kind(
    name="kubernetes",
    title="Kubernetes",
    settings=KubernetesSettings,
    works=True,
    machine="pod",
    head="pod",
    here_only=frozenset({"context"}),
    changes={
        "context": "refused",
        "namespace": "refused",
        "head_address": "refused",
        "head_volume": "refused",
        "head_service_account": "refused",
        "image": "replace",
        "image_pull_secrets": "replace",
        "service_account": "replace",
        "storage_class": "in-place",  # of what is made from now on
        "volumes": "replace",
        "pod": "replace",
        "runtime_class": "replace",
        "priority_class": "replace",
        "kueue_queue": "replace",
    },
    foreign=frozenset({"hosts", "host", "market", "reservation", "keep_stopped", "one_zone"}),
    own=frozenset({"node_selector", "tolerations"}),
    starters={"kubernetes": "tasks", "kubernetes-gpu": "gpu"},
    other_names=("k8s", "kube"),
    boot_seconds=5.0,
    search=Search(
        where=("context", "namespace"),
        looked="account",
        account=Account(("KUBECONFIG", "KUBERNETES_SERVICE_HOST"), ("~/.kube/config",)),
        note="api-server.json",
    ),
    library=Library(extra="kubernetes", modules=("requests", "paramiko", "websockets")),
)
