"""Azure's metadata service of an instance: a header and a version are asked for, and whoever asks for another by proxy is told
nothing.

Facts are by their whole path, such as `instance/compute/name`; `identity/oauth2/token` and `scheduledevents` are JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cloud.metadata import Answer, Facts

ADDRESS = "169.254.169.254"
VERSIONS = frozenset({"2018-02-01", "2019-08-01", "2020-07-01", "2021-02-01"})
_ROOT = "/metadata/"


def answer(method: str, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
    """A dialect of `metadata.MetadataServer`."""
    url = urlsplit(path)
    query = dict(parse_qsl(url.query))
    if headers.get("X-Forwarded-For") or headers.get("Metadata", "").lower() != "true":
        return _wrong("Bad request. Required metadata header not specified or is incorrect")
    if not url.path.startswith(_ROOT):
        return Answer(404)
    if query.get("api-version") not in VERSIONS:
        return _wrong("Bad request. api-version was not specified in the request")
    name = url.path.removeprefix(_ROOT).rstrip("/")
    if name in facts:
        is_text = name.startswith("instance/")
        if method != "GET" and is_text:
            return Answer(405)
        if is_text and query.get("format") != "text":
            return _wrong("Bad request. A single value is had with format=text")
        return Answer(200, facts[name], {"Content-Type": "text/plain" if is_text else "application/json"})
    below = {key.removeprefix(f"{name}/"): value for key, value in facts.items() if key.startswith(f"{name}/")}
    if not below:
        return Answer(404, json.dumps({"error": "Not found"}))
    return Answer(200, json.dumps(_tree(below)), {"Content-Type": "application/json"})


def _tree(facts: Mapping[str, str]) -> Any:
    """What is below a path, as JSON has it: numbers in a path are places in a list."""
    heads = list(dict.fromkeys(key.partition("/")[0] for key in facts))
    parts: dict[str, Any] = {}
    for head in heads:
        inner = {key.partition("/")[2]: value for key, value in facts.items() if key.partition("/")[0] == head}
        parts[head] = inner[""] if "" in inner else _tree(inner)
    return [parts[head] for head in heads] if all(head.isdecimal() for head in heads) else parts


def _wrong(text: str) -> Answer:
    return Answer(400, json.dumps({"error": text}), {"Content-Type": "application/json"})
