"""A spec with another name, or with a lifetime that its user did not write: as text, which a head reads like any other."""

from __future__ import annotations

from collections.abc import Mapping

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


def _text(value: str) -> Node:
    return Node(0, 0, value)


def _entry(node: Node) -> Entry:
    return Entry(0, 0, node)
