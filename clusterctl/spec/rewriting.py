"""A spec with something in it that its user wrote elsewhere, or not at all: as text, which a head reads like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clusterctl.spec.document import Document, Entry, Node
from clusterctl.spec.writing import text_of


def rewritten(document: Document, *, name: str, lifetime: Mapping[str, str], comment: str) -> str:
    """The text of `document` with this cluster's name, and with `lifetime` where that has something in it."""
    root = document.root
    assert isinstance(root.value, dict)
    entries = {**root.value, "cluster": _entry(_text(name))}
    if lifetime:
        rules = {rule: _entry(_text(value)) for rule, value in lifetime.items()}
        entries["lifetime"] = _entry(Node(0, 0, rules))
    return text_of(Document(document.name, Node(root.line, root.column, entries)), comment)


def with_packages(document: Document, lines: Sequence[str], comment: str) -> str:
    """The text of `document` with these among `engine.ray.packages`, in the place of `engine.ray.requirements`."""
    root = document.root
    assert isinstance(root.value, dict)
    engine = root.value["engine"].node
    assert isinstance(engine.value, dict)
    ray = engine.value["ray"].node
    assert isinstance(ray.value, dict)
    written = document.node(("engine", "ray", "packages"))
    before = list(written.value) if written is not None and isinstance(written.value, list) else []
    settings = {key: entry for key, entry in ray.value.items() if key != "requirements"}
    settings["packages"] = _entry(Node(0, 0, [*before, *map(_text, lines)]))
    entries = {**root.value, "engine": _entry(Node(0, 0, {**engine.value, "ray": _entry(Node(0, 0, settings))}))}
    return text_of(Document(document.name, Node(root.line, root.column, entries)), comment)


def _text(value: str) -> Node:
    return Node(0, 0, value)


def _entry(node: Node) -> Entry:
    return Entry(0, 0, node)
