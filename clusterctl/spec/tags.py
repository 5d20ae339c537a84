"""What AWS takes as tags: findings with the place of each, before anything is made."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from clusterctl.spec.faults import Finding, refuse, shorten

MOST_OF_AWS = 50  # on one thing
OURS = 9  # of them at most, on one thing
MOST = MOST_OF_AWS - OURS
LONGEST_KEY, LONGEST_VALUE = 128, 256
RESERVED = "clusterctl-"
_MARKS = "_.:/=+-@"  # beside letters, digits and spaces: what every service of AWS takes, IAM's roles included


def read_aws_tags(value: Any) -> Any:
    """Tags, which AWS must accept on machines, volumes and roles."""
    findings = list(_check(value)) if isinstance(value, dict) else []
    return refuse(findings) if findings else value


def _check(tags: Mapping[Any, Any]) -> Iterator[Finding]:
    if len(tags) > MOST:
        what = f"{len(tags)} tags are too many: AWS takes {MOST_OF_AWS} on one thing, and up to {OURS} are clusterctl's own"
        yield Finding((), what, f"keep {MOST} at most", True)
    seen: dict[str, str] = {}
    for key, value in tags.items():
        name = str(key)
        if isinstance(value, list | dict):
            kind = "list" if isinstance(value, list) else "mapping"
            yield Finding((key,), f"the tag {shorten(name)} must be text, not a {kind}")
        yield from _check_key(key, name)
        if isinstance(value, str):
            yield from _check_value(key, value)
        if name.lower() in seen:
            what = f"the tags {shorten(seen[name.lower()])} and {shorten(name)} differ in case only"
            yield Finding((key,), what, "AWS takes them for one on roles: keep one of them", True)
        seen.setdefault(name.lower(), name)


def _check_key(key: Any, name: str) -> Iterator[Finding]:
    if name.lower().startswith("aws:"):
        yield Finding((key,), f"the tag {shorten(name)} begins with 'aws:', which AWS keeps for itself", "", True)
    elif name.lower().startswith(RESERVED) or name == "Name":
        what = f"the tag {shorten(name)} is reserved: clusterctl sets it on all that it makes"
        yield Finding((key,), what, "choose another key", True)
    elif not 1 <= len(name) <= LONGEST_KEY:
        yield Finding((key,), f"a tag's key has 1 to {LONGEST_KEY} characters, this one has {len(name)}", "", True)
    elif wrong := _wrong(name):
        yield Finding((key,), f"a tag's key cannot have {wrong}", _allowed(), True)


def _check_value(key: Any, value: str) -> Iterator[Finding]:
    if len(value) > LONGEST_VALUE:
        yield Finding((key,), f"a tag's value has {LONGEST_VALUE} characters at most, this one has {len(value)}")
    elif wrong := _wrong(value):
        yield Finding((key,), f"a tag's value cannot have {wrong}", _allowed())


def _wrong(text: str) -> str:
    found = next((c for c in text if not (unicodedata.category(c)[0] in "LNZ" or c in _MARKS)), "")
    return repr(found) if found else ""


def _allowed() -> str:
    return f"AWS takes letters, digits, spaces and {' '.join(_MARKS)}"
