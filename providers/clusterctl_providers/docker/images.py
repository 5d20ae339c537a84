"""A node's image: fetched if need be, and looked into once, for its Python and for the user it runs as."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from clusterctl_runtime.files.private import write_private
from docker.errors import APIError, ImageNotFound, NotFound

from clusterctl.core.errors import BadRequest
from clusterctl_providers.base import TAG_CLUSTER, TAG_MAKER, TAG_UID, ProviderContext
from clusterctl_providers.docker.client import TROUBLE, Engine, translated
from clusterctl_providers.docker.pulls import Pulls
from clusterctl_providers.this_machine import maker

OLDEST_PYTHON = (3, 10)
_LOOK = "import os, sys; print('%d.%d' % sys.version_info[:2], os.getuid(), os.getgid())"
_LOOK_SECONDS = 60


@dataclass(frozen=True)
class Image:
    id: str
    python: str
    user: int
    group: int


class Images:
    """Thread-safe; what is known of an image is kept by its id in the cluster's state directory."""

    def __init__(self, engine: Engine, context: ProviderContext) -> None:
        self._engine, self._context = engine, context
        self._directory = Path(context.state_dir) / "images"
        self._pulls = Pulls(engine)
        self._lock = threading.Lock()
        self._known: dict[str, Image] = {}

    def get(self, name: str) -> Image:
        """Raises NotYet while it is pulled, and BadRequest when it is not to be had or no agent could run in it."""
        known = self._known.get(name)
        if known is not None:
            return known
        image_id = self._present(name)
        with self._lock:
            if name not in self._known:
                self._known[name] = self._read(name, image_id)
            return self._known[name]

    def forget(self, name: str) -> None:
        """It turned out to be gone."""
        with self._lock:
            self._known.pop(name, None)

    def _read(self, name: str, image_id: str) -> Image:
        kept = self._directory / image_id.rpartition(":")[2]
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            return Image(**json.loads(kept.read_text()))
        image = self._look(name, image_id)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(kept, json.dumps(asdict(image)))
        return image

    def _present(self, name: str) -> str:
        """Its id; an image that the engine does not have is pulled."""
        api, what = self._engine.api, f"looking for the image {name!r}"
        for pulled in (False, True):
            try:
                return str(api.inspect_image(name)["Id"])
            except ImageNotFound as error:
                if pulled:
                    raise translated(error, what) from error
                self._pulls.have(name)
            except TROUBLE as error:
                raise translated(error, what) from error
        raise AssertionError("the loop above returns or raises")

    def _look(self, name: str, image_id: str) -> Image:
        """Runs its Python once, without a network. The container carries our uid: a crash here leaves nothing unowned."""
        api, what = self._engine.api, f"running Python in the image {name!r}"
        labels = {TAG_CLUSTER: self._context.cluster, TAG_UID: self._context.uid, TAG_MAKER: maker()}
        container = ""
        try:
            container = api.create_container(
                image_id, entrypoint=["python3", "-I", "-c", _LOOK], labels=labels,
                host_config=api.create_host_config(network_mode="none", cap_drop=["ALL"], mem_limit="256m", pids_limit=64),
            )["Id"]  # fmt: skip
            api.start(container)
            code = int(api.wait(container, timeout=_LOOK_SECONDS)["StatusCode"])
            said = api.logs(container).decode(errors="replace").strip()
        except APIError as error:
            if "python3" in str(error.explanation):
                raise BadRequest(_no_python(name, "it has no python3 on its PATH")) from error
            raise translated(error, what) from error
        except TROUBLE as error:
            raise translated(error, what) from error
        finally:
            if container:
                with contextlib.suppress(NotFound):
                    api.remove_container(container, force=True, v=True)
        return _understood(name, image_id, code, said)


def _understood(name: str, image_id: str, code: int, said: str) -> Image:
    words = said.splitlines()[-1].split() if said else []
    if code or len(words) != 3:
        raise BadRequest(_no_python(name, f"its python3 does not run ({said[-200:] or f'exit code {code}'})"))
    version = tuple(int(part) for part in words[0].split("."))
    if version < OLDEST_PYTHON:
        raise BadRequest(_no_python(name, f"its python3 is {words[0]}"))
    return Image(image_id, words[0], int(words[1]), int(words[2]))


def _no_python(name: str, trouble: str) -> str:
    return (
        f"no node can run in the image {name!r}: {trouble}, and Python 3.10 or later is needed; add it, or name another "
        "image in the pool's `image`"
    )
