"""YAML text -> a tree that knows where everything stands, by YAML 1.2: `on`, `yes` and `no` are text, `010` is ten.

Only the events of PyYAML's parser are used: no tag is ever resolved, so no text can build an object. Duplicate keys,
tags, several documents, deep nesting and aliases that multiply are faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from clusterctl.spec.faults import MAX_FAULTS, Fault, Path, SpecError, shorten
from clusterctl.spec.syntax import syntax_fault, unprintable_fault

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_ALIASED = 10_000  # values that aliases may stand for, all together
MERGE_KEY = "<<"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is twenty times faster and mostly there
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 40  # longer digits are an identifier, not an amount


@dataclass
class Node:
    """A value in the text: text, a list of Nodes, or a dict of key -> Entry. `size` counts it and all below it."""

    line: int
    column: int
    value: str | list[Node] | dict[str, Entry]
    plain: bool = False  # text without quotes: may be a number, a boolean or null
    size: int = 1

    def scalar(self) -> Any:
        """The value of a plain or quoted text by the core schema of YAML 1.2."""
        assert isinstance(self.value, str)
        return resolve(self.value) if self.plain else self.value

    def children(self) -> list[tuple[str | int, Node]]:
        """(key or index, node) of what is directly inside; none for a scalar."""
        if isinstance(self.value, dict):
            return [(key, entry.node) for key, entry in self.value.items()]
        return list(enumerate(self.value)) if isinstance(self.value, list) else []

    def data(self) -> Any:
        """Plain Python data, without places."""
        if isinstance(self.value, dict):
            return {key: entry.node.data() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [node.data() for node in self.value]
        return self.scalar()


@dataclass
class Entry:
    line: int
    column: int
    node: Node


def resolve(text: str) -> str | int | float | bool | None:
    """A plain scalar as YAML 1.2 reads it."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(
            text.replace(".", "") if text[-1] in "fFnN" else text
        )  # ".inf" and ".nan" are Python's without the dot
    return text


@dataclass
class Document:
    """The text of a spec as a tree; `name` is the file's name as the user gave it."""

    name: str
    root: Node

    def node(self, path: Path) -> Node | None:
        """What stands at `path`, or None."""
        node = self.root
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node = node.value[str(step)].node
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node

    def place(self, path: Path, at_key: bool = False) -> tuple[int, int]:
        """Line and column of the value (or key) at `path`; of the nearest thing above where it is not in the text."""
        while path and self.node(path) is None:
            path, at_key = path[:-1], True
        if not path:
            return 1, 1
        node = self.node(path)
        parent = self.node(path[:-1])
        assert node is not None and parent is not None
        if at_key and isinstance(parent.value, dict):
            entry = parent.value[str(path[-1])]
            return entry.line, entry.column
        return node.line, node.column

    def fault(self, path: Path, message: str, suggestion: str = "", at_key: bool = False) -> Fault:
        """A fault at the place that `path` has in the text; `at_key`: at the key instead of its value."""
        return Fault(self.name, *self.place(path, at_key), message, suggestion)


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet. `key` waits for its value."""

    node: Node
    anchor: str | None
    key: Node | None = None
    merged: list[Node] = field(default_factory=list)


class _Composer:
    """Builds the tree from events; collects faults and goes on where the rest can still be read."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.faults: list[Fault] = []
        self.anchors: dict[str, Node] = {}
        self.open: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0
        self.aliased = 0

    def compose(self, events: Iterable[yaml.Event]) -> Document:
        """Of all events. Raises SpecError with all that was found."""
        try:
            for event in events:
                self.take(event)
                if len(self.faults) > MAX_FAULTS:
                    break
        except yaml.YAMLError as error:
            self.faults.append(syntax_fault(self.name, self.text, error))
        if self.faults:
            raise SpecError(self.faults)
        if self.root is None or self.root.value == "":
            raise SpecError([Fault(self.name, 1, 1, "the spec is empty", "`clusterctl init` writes one to start from")])
        return Document(self.name, self.root)

    def take(self, event: yaml.Event) -> None:
        """One event after the other. Raises SpecError where the rest could only be misread."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.give_up(event, "a second document begins here: a spec is one document", "remove the '---'")
        elif isinstance(event, yaml.AliasEvent):
            self.add(self.aliased_node(event))
        elif isinstance(event, yaml.ScalarEvent):
            self.refuse_tag(event)
            plain = event.implicit[0]
            self.add(self.anchored(Node(*_place(event), event.value, plain), event.anchor))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self.refuse_tag(event)
            if len(self.open) >= MAX_DEPTH:
                self.give_up(event, f"nested more than {MAX_DEPTH} levels deep")
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.open.append(_Open(Node(*_place(event), value), event.anchor))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self.open.pop()
            self.merge(done)
            self.add(self.anchored(done.node, done.anchor))

    def add(self, node: Node) -> None:
        """A node is read to its end: it goes into what is open around it, as an item, a key or a key's value."""
        if not self.open:
            self.root = self.root or node
            return
        parent = self.open[-1]
        parent.node.size += node.size
        if isinstance(parent.node.value, list):
            parent.node.value.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            self.add_entry(parent, parent.key, node)
            parent.key = None

    def add_entry(self, parent: _Open, key: Node, node: Node) -> None:
        """A fault where the key is no text, or was there before: the first value stays then."""
        entries = parent.node.value
        assert isinstance(entries, dict)
        if not isinstance(key.value, str):
            self.fault(key, "a key must be plain text, not a list or mapping", "quote text that begins with '{' or '['")
        elif key.value == MERGE_KEY and key.plain:
            parent.merged.append(node)
        elif key.value in entries:
            first = entries[key.value]
            what = f"key {shorten(key.value)} is given twice: first in line {first.line}, column {first.column}"
            self.fault(key, what, "keep one of them")
        else:
            entries[key.value] = Entry(key.line, key.column, node)

    def merge(self, done: _Open) -> None:
        """`<<: *anchor` brings the keys of another mapping; those written out win, as do earlier merges."""
        for source in done.merged:
            for node in source.value if isinstance(source.value, list) else [source]:
                if not isinstance(node.value, dict):
                    self.fault(node, "'<<' must name a mapping, as in `<<: *anchor`")
                    continue
                assert isinstance(done.node.value, dict)
                for key, entry in node.value.items():
                    done.node.value.setdefault(key, entry)

    def anchored(self, node: Node, anchor: str | None) -> Node:
        """The node itself. Of anchors with one name, the last before an alias counts."""
        if anchor:
            self.anchors[anchor] = node
        return node

    def aliased_node(self, event: yaml.AliasEvent) -> Node:
        """The node that the alias stands for. Raises SpecError where there is none, or too many are stood for."""
        node = self.anchors.get(event.anchor)
        if any(part.anchor == event.anchor for part in self.open):
            self.give_up(event, f"alias '*{event.anchor}' stands inside what it refers to")
        if node is None:
            self.give_up(
                event,
                f"alias '*{event.anchor}' has no anchor '&{event.anchor}' before it",
                "quote text that begins with '*'",
            )
        self.aliased += node.size
        if self.aliased > MAX_ALIASED:
            self.give_up(event, f"aliases stand for more than {MAX_ALIASED:,} values by here", "write them out")
        return node

    def refuse_tag(self, event: Any) -> None:
        """A tag is a fault; what it is on is read all the same."""
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            what = f"tag {shorten(tag)} is not allowed"
            self.faults.append(Fault(self.name, *_place(event), what, "remove it, or quote the text"))

    def fault(self, node: Node, message: str, suggestion: str = "") -> None:
        self.faults.append(Fault(self.name, node.line, node.column, message, suggestion))

    def give_up(self, event: yaml.Event, message: str, suggestion: str = "") -> NoReturn:
        """Raises SpecError with this fault behind those before it."""
        raise SpecError([*self.faults, Fault(self.name, *_place(event), message, suggestion)])


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _events(text: str) -> Iterator[yaml.Event]:
    return yaml.parse(text, Loader=_Loader)


def compose(text: str, name: str) -> Document:
    """The tree of `text`; raises SpecError with every fault of form."""
    text = _readable(text, name)
    return _Composer(name, text).compose(_events(text))


def compose_all(text: str, name: str) -> list[Document]:
    """The tree of each document in `text` that has something in it, for files of other programs. Raises SpecError."""
    text = _readable(text, name)
    each: list[list[yaml.Event]] = []
    try:
        for event in _events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                each.append([])
            if each:
                each[-1].append(event)
    except yaml.YAMLError as error:
        raise SpecError([syntax_fault(name, text, error)]) from error
    return [_Composer(name, text).compose(events) for events in each if not _is_empty(events)]


def _is_empty(events: list[yaml.Event]) -> bool:
    first = events[1] if len(events) > 1 else None
    return isinstance(first, yaml.ScalarEvent) and first.value == ""


def _readable(text: str, name: str) -> str:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise SpecError([Fault(name, 0, 0, f"the spec has {size:,} bytes; the limit is {MAX_BYTES:,}")])
    text = text.removeprefix("\ufeff")
    unprintable = unprintable_fault(name, text)
    if unprintable:
        raise SpecError([unprintable])
    return text
