"""A new version of a service, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl.client.head.api import Api, follow, with_patience
from clusterctl.client.submit.submission import Wanted, mint_id, packed_request
from clusterctl.core.errors import ClusterctlError

Document = dict[str, Any]
_COUNTDOWN = re.compile(r"\d+(?:\.\d+)? (?:s|min|h)\b")


@dataclass(frozen=True)
class Serving:
    """What is wanted of the service beside its program. `port` 0 is any free one; `replicas` None: as many as there are."""

    port: int
    replicas: int | None
    health: str
    patience: float
    grace: float
    surge: bool


def ask(api: Api, name: str, wanted: Wanted, serving: Serving, home: Path, say: Callable[[str], object]) -> Document:
    """Packs, uploads, and returns the service's document once the new version is on the head's disk. It is one version, however
    often the request must be made."""
    job = packed_request(api, wanted, home, say) | {"submission_id": "", "driver": False, "name": ""}
    body = {
        "id": mint_id(),
        "job": job,
        "port": serving.port,
        "replicas": serving.replicas,
        "health": serving.health,
        "patience": serving.patience,
        "grace": serving.grace,
        "surge": serving.surge,
    }
    return with_patience(lambda: api.put(f"/api/v1/services/{name}", body), 30.0)


def follow_update(api: Api, document: Document, say: Callable[[str], object]) -> Document:
    """Returns the service's document once the version that was wanted in `document` serves, or was given up, or something else is
    wanted by now; `say` is told how it goes, each thing once."""
    version = document["wanted"]
    told = Told(say, document["members"])
    with closing(_watched(api, document["name"])) as documents:
        for now in documents:
            told.tell(now)
            if now["version"] == version or now["wanted"] != version:
                return now
    raise ClusterctlError(f"the head ended before version {version} of service {document['name']} had proven itself")


def _watched(api: Api, name: str) -> Generator[Document, None, None]:
    return follow(lambda: api.stream(f"/api/v1/services/{name}/watch"))


class Told:
    """Says what becomes of each replica, of those in `known` what changes; a countdown in it makes no other sentence."""

    def __init__(self, say: Callable[[str], object], known: Sequence[Document] = ()) -> None:
        self._say = say
        self._last = {member["job"]: _COUNTDOWN.sub("", member_text(member)) for member in known}

    def tell(self, document: Document) -> None:
        for member in document["members"]:
            text = member_text(member)
            plain = _COUNTDOWN.sub("", text)
            if self._last.get(member["job"]) != plain:
                self._last[member["job"]] = plain
                self._say(f"{member['job']}: {text}")


def member_text(member: Document) -> str:
    """A replica in some words, as in "waiting: launching cpu-3"."""
    place = f" on {member['node']}" if member["node"] and member["state"] in ("starting", "well", "ill") else ""
    if member["state"] == "starting" or not member["why"]:  # that nothing answers yet is no news
        return f"{member['state']}{place}"
    return member["why"] if member["state"] == "waiting" else f"{member['state']}{place}: {member['why']}"
