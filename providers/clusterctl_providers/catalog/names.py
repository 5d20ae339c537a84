"""Names of regions, zones, instance types and GPUs that a cloud cannot have, told without asking it.

What is known completely is told apart from what is a sample. A Doubt is `certain` where no such thing can be: the name has not
the form that the cloud's names have, or is missing in a list that is whole. A name that is only not known here, as it may be
newer than this version, is no more than doubted.

                regions                                    instance types                   GPUs
    AWS         a whole list (botocore's, and ours)        a whole list of what families    the catalogue: a pool gets
                                                           have; new families come          no other machine than those
    GCP, Azure  a list by hand: a new number or place      of families in the catalogue,    that it knows
                of a known form may be newer               or a sample
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources, util
from pathlib import Path
from typing import Any

from clusterctl_providers.catalog.choice import same_count, same_gpu
from clusterctl_providers.catalog.store import load, machine_types


@dataclass(frozen=True)
class Doubt:
    """`text`: what is wrong with a name, a sentence; `fix`: what to write instead, or "". `certain`: nobody has it."""

    text: str
    fix: str
    certain: bool


_TITLES = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure"}
_OF_REGIONS = {
    "gcp": re.compile(r"[a-z]+-(?:central|north|south|east|west|(?:north|south)(?:east|west))\d{1,2}"),
    "azure": re.compile(r"[a-z]{4,}\d?(?:euap|stage)?"),
}
_OF_ZONES = {
    "aws": re.compile(r"[a-z]|-[a-z0-9]+(?:-[a-z]+)*-\d+[a-z]?"),  # of a local zone: us-west-2-lax-1a
    "gcp": re.compile(r"-[a-z]|-ai\d[a-z]"),
}
_OF_TYPES = {
    "aws": re.compile(r"[a-z]+[a-z0-9-]*\d[a-z0-9-]*\.(?:nano|micro|small|medium|(?:\d*x)?large|metal(?:-\d+xl)?)"),
    "gcp": re.compile(r"[a-z]+\d+[a-z]*-[a-z]+(?:-[a-z0-9]+)*(?:\+[a-z0-9-]+x\d+)?"),
    "azure": re.compile(r"(?:Standard|Basic)_[A-Z]+\d+(?:-\d+)?[a-z]*(?:_[A-Za-z0-9]+)*(?:_v\d)?"),
}
_CUSTOM = re.compile(
    r"(?:[a-z0-9]+-)?custom-(?:micro|small|medium|\d+)-\d+(?:-ext)?"
)  # sizes of one's own on Google Cloud
_SHARED = frozenset({"e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small"})  # a part of a CPU on Google Cloud


def doubt_region(provider: str, name: str) -> Doubt | None:
    """None for one that is known, and for a provider of which no names are known."""
    known = _regions(provider)
    if not known or name in known:
        return None
    fix = _nearest(name, known)
    text = f"{_TITLES.get(provider, provider)} has no region {name!r} that is known"
    if provider not in _OF_REGIONS:
        return Doubt(text, fix or f"it has {', '.join(sorted(known))}", True)
    if not _OF_REGIONS[provider].fullmatch(name):
        return Doubt(text, fix, True)
    place, places = _place_in(name), {_place_in(one) for one in known}
    near = get_close_matches(place, sorted(places), n=1, cutoff=0.75)
    swapped = sorted(place) in [sorted(one) for one in places]
    is_slip = place not in places and (bool(near) or swapped)
    return Doubt(text, fix, is_slip)


def doubt_zone(provider: str, region: str, name: str) -> Doubt | None:
    """Of one that begins with the region's name, where the cloud's zones do."""
    form = _OF_ZONES.get(provider)
    if form is None or not name.startswith(region) or form.fullmatch(name.removeprefix(region)):
        return None
    example = f"{region}a" if provider == "aws" else f"{region}-a"
    return Doubt(f"{name!r} is no zone of {_TITLES.get(provider, provider)}", f"as in {example}", True)


def doubt_type(provider: str, name: str) -> Doubt | None:
    """None for one of which the catalogue knows what it has; no other is bought."""
    known = _types_known(provider)
    if not known or name in known:
        return None
    fix = _nearest(name, known)
    certain = not _OF_TYPES[provider].fullmatch(name) or name.lower() in {one.lower() for one in known}
    if provider == "aws":
        family, _, size = name.partition(".")
        sizes = _listed()["aws"]["types"].get(family, "").split()
        if size in sizes:
            return Doubt(_unknown(provider, name, len(known)), "", False)
        certain |= bool(sizes)
    if provider == "gcp" and not _CUSTOM.fullmatch(name) and name not in _SHARED:
        certain |= name.partition("-")[0] in {one.partition("-")[0] for one in known}
    if certain:
        return Doubt(
            f"{_TITLES.get(provider, provider)} has no instance type {name!r}", fix or _listing(provider), True
        )
    return Doubt(_unknown(provider, name, len(known)), fix, False)


def doubt_gpu(provider: str, name: str, count: float) -> Doubt | None:
    """Of a pool's `gpu`: machines with it are taken from the catalogue and from nowhere else."""
    machines = [one for one in machine_types().values() if one.provider == provider and one.gpu_count]
    if not machines:
        return None
    alike = [one for one in machines if same_gpu(one, name)]
    if not alike:
        return Doubt(*_no_gpu(provider, name, {one.gpu_name for one in machines}), True)
    if any(same_count(one, count) for one in alike):
        return None
    counts = sorted({one.gpu_count for one in alike if one.gpu_count >= 1})
    text = f"no machine of {_TITLES.get(provider, provider)} in the catalogue has {count:g} x {name or 'GPU'}"
    return Doubt(text, f"there are machines with {', '.join(f'{one:g}' for one in counts)}" if counts else "", False)


def _no_gpu(provider: str, name: str, here: Collection[str]) -> tuple[str, str]:
    """What is said of a GPU that no machine of the cloud has, and what to write instead."""
    elsewhere = {one.provider for one in machine_types().values() if one.gpu_count and same_gpu(one, name)}
    text, own = (
        f"{_TITLES.get(provider, provider)} has no GPU {name!r} that is known",
        f"it has {', '.join(sorted(here))}",
    )
    if elsewhere:
        return f"{text}; {' and '.join(_TITLES.get(one, one) for one in sorted(elsewhere))} has it", own
    return text, _nearest(name, here) or own


def _unknown(provider: str, name: str, number: int) -> str:
    text = f"{name!r} is not among the {number} instance types of {_TITLES.get(provider, provider)} in the catalogue"
    return f"{text} of this version: none is bought"


def _listing(provider: str) -> str:
    return f"`clusterctl offers --provider {provider}` lists those that are known"


def _nearest(name: str, known: Iterable[str]) -> str:
    lower = {one.lower(): one for one in sorted(known)}
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {lower[near[0]]!r}?" if near else ""


def _place_in(region: str) -> str:
    """Without points of the compass and numbers: "westeurope" is in "europe"."""
    return re.sub(r"north|south|east|west|central|[-\d]", "", region)


def _types_known(provider: str) -> set[str]:
    return {name for owner, name in machine_types() if owner == provider}


def _regions(provider: str) -> set[str]:
    listed = set(_listed().get(provider, {}).get("regions", ()))
    own = set(load().regions(provider)) if listed else set()  # newer prices than ours may be of newer regions
    return listed | own | (_of_botocore() if provider == "aws" else set())


@lru_cache(maxsize=1)
def _listed() -> dict[str, Any]:
    return json.loads((resources.files("clusterctl_providers.catalog") / "names.json").read_text())


@lru_cache(maxsize=1)
def _of_botocore() -> set[str]:
    """Those that the installed one knows, which may be newer than this version."""
    found = util.find_spec("botocore")
    if found is None or found.origin is None:
        return set()
    try:
        partitions = json.loads((Path(found.origin).parent / "data" / "partitions.json").read_text())["partitions"]
        return {name for one in partitions for name in one["regions"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
