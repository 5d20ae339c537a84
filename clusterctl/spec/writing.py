"""A document as text again, which reads as the same document: scalars stay as they were written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from clusterctl.spec.document import Document, Node

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def text_of(document: Document, comment: str) -> str:
    """YAML in block style, below a line with `comment`. Comments of the user's are not kept."""
    return "\n".join([f"# {comment}", *_lines(document.root)]) + "\n"


def _lines(node: Node) -> Iterator[str]:
    """What stands below a key, or at the top; a list or mapping has something in it."""
    if isinstance(node.value, dict):
        for key, entry in node.value.items():
            yield from _entry(f"{_key(key)}:", entry.node)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from _item(item)


def _entry(begin: str, node: Node) -> Iterator[str]:
    if isinstance(node.value, str) or not node.value:
        yield f"{begin} {_short(node)}".rstrip()
        return
    yield begin
    yield from (f"  {line}" for line in _lines(node))


def _item(node: Node) -> Iterator[str]:
    if isinstance(node.value, str) or not node.value:
        yield f"- {_short(node)}".rstrip()
        return
    for number, line in enumerate(_lines(node)):
        yield f"  {line}" if number else f"- {line}"


def _short(node: Node) -> str:
    if isinstance(node.value, str):
        return _scalar(node)
    return "{}" if isinstance(node.value, dict) else "[]"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else _quoted(key)


def _scalar(node: Node) -> str:
    """What had no quotes gets none, since it may be a number or a boolean: only what went over several lines is surely text."""
    assert isinstance(node.value, str)
    return node.value if node.plain and "\n" not in node.value else _quoted(node.value)


def _quoted(text: str) -> str:
    """JSON's strings are YAML's, but for characters that YAML has as line breaks or refuses."""
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False)
    )
