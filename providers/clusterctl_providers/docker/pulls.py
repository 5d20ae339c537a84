"""Images on their way to the engine. A pull may take many minutes, and nobody waits for it in a call: whoever needs the image
is told how far it is, and asks again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, NotYet
from clusterctl_providers.docker.client import TROUBLE, Engine, in_words
from clusterctl_providers.docker.login import login_for

PATIENCE = 1.0  # seconds for which a call waits for the image: small ones are there by then
_THERE = frozenset({"Already exists", "Pull complete"})


class Pulls:
    """Thread-safe. One pull per image and process; the engine itself joins those of several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def have(self, name: str) -> None:
        """Returns once it was pulled. Raises NotYet while it is under way, and BadRequest where it cannot be had."""
        with self._lock:
            pull = self._pulls.get(name)
            if pull is None:
                pull = self._pulls[name] = _Pull(self._engine, name)
                pull.start()
        pull.join(PATIENCE)
        if pull.is_alive():
            raise NotYet(f"pulling {pull.progress()} of the image {name}", retry_after=PATIENCE)
        with self._lock:
            self._pulls.pop(name, None)  # the next one who needs it tries again
        if pull.error:
            raise BadRequest(
                f"the image {name!r} is not on the Docker engine and could not be pulled ({pull.error}): try `docker pull "
                f"{name}`, or name another one in the pool's `image`"
            )


class _Pull(threading.Thread):
    """It dies with its process, and the engine then gives up what it has not finished: layers that are there stay."""

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(name=f"pull-{name}", daemon=True)
        self.error = ""
        self._engine, self._name = engine, name
        self._layers: dict[str, Mapping[str, Any]] = {}  # layer -> the last that was said of it
        self._sizes: dict[str, int] = {}  # layer -> bytes to download

    def run(self) -> None:
        """Pulls to the end. Raises nothing of the engine's: `error` has it then."""
        repository, tag = split_name(self._name)
        login = login_for(repository)
        try:
            pulled = self._engine.api.pull(repository, tag=tag, stream=True, decode=True, auth_config=dict(login.words))
            self._follow(pulled)
        except TROUBLE as error:
            self.error = in_words(error)
        if self.error and login.trouble:
            self.error += f"; it was tried without a login, since {login.trouble}"

    def _follow(self, said: Iterable[Mapping[str, Any]]) -> None:
        for line in said:
            if "error" in line:
                self.error = " ".join(str(line["error"]).split())
            layer, status = str(line.get("id") or ""), str(line.get("status") or "")
            if layer and not status.startswith("Pulling from"):
                detail: Mapping[str, Any] = line.get("progressDetail") or {}
                if status == "Downloading" and detail.get("total"):
                    self._sizes[layer] = int(detail["total"])
                self._layers[layer] = line

    def progress(self) -> str:
        """ "2 of 5 layers (310 MB of 1.2 GB)"; sizes are known of those layers whose download began."""
        layers = list(self._layers.items())
        if not layers:
            return "the manifest"
        there = sum(line.get("status") in _THERE for _, line in layers)
        got = sum(self._got(layer, line) for layer, line in layers)
        total = sum(self._sizes.values())
        bytes_said = f" ({_size(got)} of {_size(total)})" if total else ""
        return f"{there} of {len(layers)} layers{bytes_said}"

    def _got(self, layer: str, line: Mapping[str, Any]) -> int:
        if line.get("status") == "Downloading":
            return int((line.get("progressDetail") or {}).get("current") or 0)
        return self._sizes.get(layer, 0)


def split_name(name: str) -> tuple[str, str | None]:
    """("repository", "tag"): without a tag Docker would pull all of them."""
    if "@" in name:
        return name, None
    head, _, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return (f"{head}/{base}" if head else base), tag or "latest"


def _size(count: float) -> str:
    """As Docker says it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
