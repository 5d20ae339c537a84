"""A spec whose `provider` is a list of places, as one spec for each of them.

    provider: [{aws: {region: us-east-1}}, {gcp: {region: us-central1}}]
    pools: [{name: gpu, instances: {aws: [p4d.24xlarge], gcp: [a2-highgpu-8g]}}]

Each place has a document of its own in which it is the only provider, and what is written by place is what holds there. All
of them keep the places that their keys have in the text, so that whoever finds a fault in one finds it in the user's file.

A place is called by its provider and region, "aws/us-east-1"; where two have the same, by what else tells them apart. The
beginning of such a name up to a "/" stands for every place that begins so, as a key and as an option of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clusterctl.spec.document import Document, Entry, Node
from clusterctl.spec.faults import Finding, Path, did_you_mean, flow, shorten
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import EXAMPLE, KINDS

Order = Literal["written", "price"]
ORDERS: tuple[Order, ...] = ("written", "price")
ORDER = "provider_order"
MOST = 50
# What means something to one cloud only may be written by place: key -> what its value is for every place.
OF_POOLS = ("instances", "image", "reservation", "market", "zones")
OF_THE_HEAD = ("instance", "image", "zone")


@dataclass(frozen=True)
class Place:
    """`document`: the spec as if there were no other place."""

    name: str
    document: Document


@dataclass(frozen=True)
class Written:
    """The places in the order of the text. `order`: in which they are to be tried. `listed`: whether `provider` is a list."""

    places: tuple[Place, ...]
    order: Order = "written"
    listed: bool = False


def split(document: Document) -> tuple[Written, list[Finding]]:
    """One place for each that `provider` names, and what is wrong with the list itself, by paths in `document`, whose root is
    a mapping. What is wrong with a place is found in its own document."""
    root = document.root.value
    assert isinstance(root, dict)
    provider = root["provider"].node if "provider" in root else None
    listed = provider is not None and isinstance(provider.value, list)
    items = list(provider.value) if provider is not None and isinstance(provider.value, list) else [provider]
    order, findings = _order(document, listed)
    findings += _check_list(items) if listed else []
    items = items[:MOST]
    names = _names([_sort(item) for item in items])
    findings += _check_keys(document, names)
    plain = replace(document, root=_without(document.root, ORDER))
    only = items if listed else [None]
    return Written(tuple(_place(plain, *each) for each in zip(names, only, strict=True)), order, listed), findings


def begins(name: str, start: str) -> bool:
    """Whether `start` stands for the place `name`."""
    return name == start or name.startswith(f"{start}/")


def identity(provider: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What two lists, or a list and a cluster, have to agree in to mean one place: the provider, and those of its settings
    that say where instances are."""
    kind = KINDS.get(provider)
    return (provider, *(_setting(kind, settings, key) for key in _where(kind))) if kind else (provider,)


def name_of(provider: str, settings: Mapping[str, Any]) -> str:
    """The name of a place that no other one is like."""
    kind = KINDS.get(provider)
    region = _setting(kind, settings, "region") if kind and (kind.cloud or kind.imagined) else ""
    return f"{provider}/{region}" if region else provider


# ---------------------------------------------------------------- the list


def _order(document: Document, listed: bool) -> tuple[Order, list[Finding]]:
    node = document.node((ORDER,))
    if node is None:
        return "written", []
    value = node.scalar() if isinstance(node.value, str) else None
    if not listed and value != "written":
        what = f"{ORDER!r} is the order of several places, and `provider` names one"
        return "written", [Finding((ORDER,), what, "remove it, or write a list", True)]
    if value in ORDERS:
        return value, []
    if value is None and isinstance(node.value, str):
        return "written", []  # told as a key without a value
    fix = did_you_mean(str(value), ORDERS) if value is not None else ""
    return "written", [Finding((ORDER,), f"{ORDER!r} must be {' or '.join(map(repr, ORDERS))}", fix)]


def _check_list(items: Sequence[Node | None]) -> list[Finding]:
    example = f"write `provider: [{flow(EXAMPLE)}]`"
    if not items:
        return [Finding(("provider",), "'provider' is an empty list: a cluster has to be somewhere", example)]
    if len(items) > MOST:
        return [Finding(("provider",), f"{len(items)} places are listed, the limit is {MOST}", "keep the best ones")]
    findings: list[Finding] = []
    first: dict[tuple[str, ...], int] = {}
    for index, item in enumerate(items):
        provider, settings = _sort(item)
        kind = KINDS.get(provider)
        if kind is None:
            continue
        if kind.cloud is None and not kind.imagined:
            clouds = ", ".join(one.name for one in KINDS.values() if one.cloud is not None or one.imagined)
            what = f"a list of places is one of clouds ({clouds}), and provider {provider!r} is none"
            findings.append(Finding(("provider", index), what, "write it alone"))
        same = identity(provider, settings)
        if same in first:
            what = f"this is place {first[same] + 1} of the list again: a region of an account is one place"
            findings.append(Finding(("provider", index), what, "remove one of them"))
        first.setdefault(same, index)
    return findings


def _sort(item: Node | None) -> tuple[str, dict[str, Any]]:
    """(provider, settings) as far as they can be read, ("", {}) for what is none."""
    if item is None or isinstance(item.value, list):
        return "", {}
    if isinstance(item.value, str):
        return item.value, {}
    given = {name: entry.node.data() for name, entry in item.value.items()}
    name = next(iter(given), "")
    settings = given.get(name)
    return name, settings if isinstance(settings, dict) else {}


def _where(kind: Kind | None) -> tuple[str, ...]:
    if kind is None:
        return ()
    told = kind.search.where if kind.search else ()
    return tuple(dict.fromkeys(("region", *told))) if kind.cloud or kind.imagined else told


def _setting(kind: Kind | None, settings: Mapping[str, Any], key: str) -> str:
    """What is written, else the default."""
    field = kind.settings.model_fields.get(key) if kind else None
    return str(settings.get(key) or (field.default if field else "") or "")


def _names(sorts: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Of all places; of those that are called alike, with what tells them apart."""
    plain = [name_of(provider, settings) or f"place {index + 1}" for index, (provider, settings) in enumerate(sorts)]
    longer = [
        "/".join([plain[index], *(_setting(KINDS.get(provider), settings, key) for key in _told_apart(provider))])
        for index, (provider, settings) in enumerate(sorts)
    ]
    return [long.rstrip("/") if plain.count(name) > 1 else name for name, long in zip(plain, longer, strict=True)]


def _told_apart(provider: str) -> tuple[str, ...]:
    return tuple(key for key in _where(KINDS.get(provider)) if key not in ("region", "endpoint_url"))


# ---------------------------------------------------------------- what is written by place


def _by_place(document: Document) -> Iterator[tuple[Path, dict[str, Entry]]]:
    """(path, place -> value) of every key whose value is written by place."""
    pools = document.node(("pools",))
    count = len(pools.value) if pools is not None and isinstance(pools.value, list) else 0
    paths: list[Path] = [("pools", index, key) for index in range(count) for key in OF_POOLS]
    for path in [*paths, *(("head", key) for key in OF_THE_HEAD)]:
        node = document.node(path)
        if node is not None and isinstance(node.value, dict):
            yield path, node.value


def _check_keys(document: Document, names: Sequence[str]) -> Iterator[Finding]:
    """What is written for a cloud that is not listed at all may stay there for another day."""
    clouds = dict.fromkeys(name.partition("/")[0] for name in names)
    for path, values in _by_place(document):
        for start in values:
            unlisted = start.partition("/")[0] in KINDS.keys() - clouds.keys()
            if not unlisted and not any(begins(name, start) for name in names):
                fix = did_you_mean(start, names) or f"write {' or '.join(clouds)}"
                what = f"{shorten(start)} is none of the places in `provider` ({', '.join(names)})"
                yield Finding((*path, start), what, fix, at_key=True)


def _place(document: Document, name: str, item: Node | None) -> Place:
    """`item`: of the list, None where there is none."""
    root = document.root
    assert isinstance(root.value, dict)
    if item is not None:
        root = replace(root, value={**root.value, "provider": Entry(item.line, item.column, item)})
    for path, values in _by_place(document):
        fitting = [start for start in values if begins(name, start)]
        root = _with(root, path, values[max(fitting, key=len)].node if fitting else None)
    return Place(name, replace(document, root=root))


def _with(node: Node, path: Path, value: Node | None) -> Node:
    """A copy of `node` with another value at `path`, or without its key."""
    step, rest = path[0], path[1:]
    if isinstance(node.value, dict):
        entry = node.value[str(step)]
        inner = _with(entry.node, rest, value) if rest else value
        if inner is None:
            return _without(node, str(step))
        return replace(node, value={**node.value, str(step): replace(entry, node=inner)})
    assert isinstance(node.value, list) and isinstance(step, int) and rest, "a list is only passed through"
    inner = _with(node.value[step], rest, value)
    return replace(node, value=[inner if index == step else one for index, one in enumerate(node.value)])


def _without(node: Node, key: str) -> Node:
    assert isinstance(node.value, dict)
    return replace(node, value={name: entry for name, entry in node.value.items() if name != key})
