"""Google's metadata server: a header is asked for and answered, and whoever asks for another by proxy is told nothing.

Facts are by their whole path, such as `instance/attributes/startup-script`; a path that ends in a slash lists what is below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from tests.cloud.metadata import Answer, Facts

ADDRESS = "169.254.169.254"
HOSTS = f"{ADDRESS} metadata.google.internal metadata\n"
_ROOT = "/computeMetadata/v1/"
_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


def answer(method: str, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
    """A dialect of `metadata.MetadataServer`."""
    url = urlsplit(path)
    query = dict(parse_qsl(url.query))
    if headers.get("X-Forwarded-For"):
        return Answer(403, "Requests with X-Forwarded-For are not allowed.", _HEADERS)
    if url.path == "/":
        return _text("computeMetadata/\n")  # by which clients know where they are
    if headers.get("Metadata-Flavor") != "Google":
        return Answer(403, "Missing Metadata-Flavor:Google header.", _HEADERS)
    if method != "GET":
        return Answer(405, "", _HEADERS)
    if not url.path.startswith(_ROOT):
        return Answer(404, "", _HEADERS)
    name = url.path.removeprefix(_ROOT)
    if name.endswith("/"):
        return _below(name, facts, query)
    if query and not name.endswith("/token"):
        return Answer(400, f"The stand-in does not know {url.query}", _HEADERS)
    return _text(facts[name]) if name in facts else Answer(404, "", _HEADERS)


def _below(name: str, facts: Facts, query: Mapping[str, str]) -> Answer:
    found = {key.removeprefix(name): value for key, value in facts.items() if key.startswith(name)}
    if not found:
        return Answer(404, "", _HEADERS)
    if query.get("recursive", "").lower() == "true":
        if not name.startswith("instance/service-accounts/"):
            return Answer(400, "The stand-in lists accounts only", _HEADERS)
        account = {"aliases": ["default"], "email": found["email"], "scopes": found["scopes"].split()}
        return Answer(200, json.dumps(account), {**_HEADERS, "Content-Type": "application/json"})
    return _text("".join(f"{each}\n" for each in sorted({_first(key) for key in found})))


def _first(key: str) -> str:
    head, slash, _ = key.partition("/")
    return head + slash


def _text(text: str) -> Answer:
    kind = "application/json" if text.startswith("{") else "application/text"
    return Answer(200, text, {**_HEADERS, "Content-Type": kind})
