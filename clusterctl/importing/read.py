"""Which program a file is of, and the spec that comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from clusterctl.importing import kuberay, ray_up, skypilot
from clusterctl.importing.draft import Draft, Imported, Names
from clusterctl.importing.given import Given
from clusterctl.importing.paths import Moved
from clusterctl.importing.reading import Reader
from clusterctl.spec.document import Document, compose_all
from clusterctl.spec.faults import Fault, SpecError

_OF_HELM = re.compile(
    r"\{\{-?\s*(?:\.(?:Values|Release|Chart|Capabilities|Files)|include|template|if|else|end|range|with|define|toYaml|tpl)\b"
)
FORMS = "a RayCluster, RayJob or RayService of KubeRay, a cluster file of `ray up`, a task file of SkyPilot"


def convert(text: str, name: str, moved: Moved, given: Given, cluster: str, names: Names) -> Imported:
    """The spec of what is in `text`, which stands in the file `name`; `cluster`: its name where the file has none; `names`:
    raises SpecError where a spec names what its cloud does not have, and gives what may be so. Raises SpecError, with places in
    the file, where there can be no spec."""
    _refuse_template(text, name)
    documents = [item for document in compose_all(text, name) for item in _items(document)]
    if not documents:
        raise SpecError([Fault(name, 1, 1, "there is nothing in it")])
    draft, reader = _read(documents, name, moved, given)
    if "cluster" not in draft.spec:
        draft.put(("cluster",), cluster or "demo")
    return draft.finish(reader, names)


def _read(documents: list[Document], name: str, moved: Moved, given: Given) -> tuple[Draft, Reader]:
    if any(_is_kubernetes(document) for document in documents):
        return _of_kubernetes(documents, given)
    if len(documents) > 1:
        place = (documents[1].root.line, documents[1].root.column)
        what = f"there are {len(documents)} documents, as in a pipeline of tasks, and a spec is of one"
        raise SpecError([Fault(name, *place, what, "put each into a file of its own")])
    (document,) = documents
    return _reading(document, moved, given)(document)


def _reading(document: Document, moved: Moved, given: Given) -> Callable[[Document], tuple[Draft, Reader]]:
    """How a file that is not of Kubernetes is read. Raises SpecError with what it is instead."""
    keys = set(document.root.value) if isinstance(document.root.value, dict) else set[str]()
    if {"cluster_name", "provider"} <= keys:
        return lambda one: ray_up.read(one, moved)
    if {"cluster", "pools"} <= keys:
        raise SpecError([document.fault((), "it is a spec of clusterctl already", f"`clusterctl up {document.name}`")])
    if "services" in keys and not keys & {"run", "resources", "setup"}:
        raise SpecError(
            [document.fault((), "it looks like a file of Docker Compose, which is not read", f"--from takes {FORMS}")]
        )
    if keys & {"run", "resources", "setup", "num_nodes"}:
        return lambda one: skypilot.read(one, moved, given)
    raise SpecError([document.fault((), f"it is none of {FORMS}")])


# ---------------------------------------------------------------- objects of Kubernetes


def _refuse_template(text: str, name: str) -> None:
    """One of Helm's may be YAML by chance, whose values are none."""
    for number, line in enumerate(text.splitlines() if "ray.io/" in text else (), 1):
        if found := _OF_HELM.search(line):
            what = f"{found[0]} is of a template of Helm, and not what Helm makes of it"
            raise SpecError([Fault(name, number, found.start() + 1, what, "give --from what `helm template` prints")])


def _items(document: Document) -> list[Document]:
    """What is in a list of objects, as `kubectl get` writes it; else the document."""
    items = document.node(("items",))
    if not _is_kubernetes(document) or not _kind(document).endswith("List") or items is None:
        return [document]
    return [Document(document.name, item) for item in items.value] if isinstance(items.value, list) else [document]


def _is_kubernetes(document: Document) -> bool:
    return isinstance(document.root.value, dict) and {"apiVersion", "kind"} <= set(document.root.value)


def _of_kubernetes(documents: list[Document], given: Given) -> tuple[Draft, Reader]:
    ours = [one for one in documents if _is_kubernetes(one) and _kind(one) in kuberay.CLUSTERS and _is_rays(one)]
    name = documents[0].name
    if not ours:
        kinds = ", ".join(dict.fromkeys(_kind(one) or "no object" for one in documents))
        what = f"there is no object of KubeRay with a cluster in it, but {kinds}"
        raise SpecError([documents[0].fault((), what, f"--from takes {FORMS}")])
    if len(ours) > 1:
        place = (ours[1].root.line, ours[1].root.column)
        raise SpecError(
            [Fault(name, *place, f"there are {len(ours)} clusters in it", "put each into a file of its own")]
        )
    draft, reader = kuberay.read(ours[0], given)
    for one in documents:
        if one is not ours[0]:
            what = f"{_kind(one) or 'this document'}: only the cluster is carried over"
            reader.notes.append(Fault(name, one.root.line, one.root.column, what, ""))
    return draft, reader


def _kind(document: Document) -> str:
    node = document.node(("kind",))
    return node.value if node is not None and isinstance(node.value, str) else ""


def _is_rays(document: Document) -> bool:
    node = document.node(("apiVersion",))
    return node is not None and str(node.value).startswith("ray.io/")
