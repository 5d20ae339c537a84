"""Which Ray each node runs with, and where it comes from: its own where it fits, else one that is installed from wheels.

The wheels are resolved and downloaded once, by the head, and nodes fetch them from it. Where the head's machine reaches no
package index, a client brings them (`bring`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterctl.core.errors import BadRequest, ClusterctlError
from clusterctl.spec.parts import Ray
from clusterctl.spec.providers.kind import Kind
from clusterctl_runtime.engine.config import given_python
from clusterctl_runtime.engine.environment import (
    TESTED_VERSION,
    EngineEnvironment,
    EngineUnavailable,
    find_environment,
    is_new_enough,
)
from clusterctl_runtime.engine.found import read_engine_facts
from clusterctl_runtime.engine.index import IndexUnreachable
from clusterctl_runtime.engine.installing import Installation, InstallFailed
from clusterctl_runtime.engine.requirements import lacking, plain_requirements
from clusterctl_runtime.engine.wheelhouse import NoWheels, Wanted, Wheel, Wheelhouse, environment_of, platform_of
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.storage.blobs import BlobStore

log = logging.getLogger(__name__)
LOOK_AGAIN = 30.0  # seconds after which an index that did not answer is asked once more


class NoEngine(ClusterctlError):
    """This node cannot have the engine that the cluster has; `code` is the reason's. `final`: no second try turns it round."""

    def __init__(self, code: str, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.code, self.final = code, final


@dataclass(frozen=True)
class Supplied:
    """`python` is the interpreter, "" for the one that runs the agent; `environment` is what the agent installs instead."""

    python: str = ""
    environment: dict[str, Any] = field(default_factory=dict)


def shared_engines(config: HeadConfig, kind: Kind) -> str:
    """The directory of the head's machine that nodes of that provider see under the same path, if they see one."""
    if kind.machine != "container" or config.spec.ray is None or given_python(config.spec, kind):
        return ""
    place = config.engine_store / "shared"
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)  # containers have users of their own
    return str(place)


class EngineSupply:
    """`changed` is called whenever `message` or `missing` did."""

    def __init__(self, config: Callable[[], HeadConfig], changed: Callable[[], None]) -> None:
        self._config, self._changed = config, changed
        self._note = config().directory / "engine.json"
        self._tasks: dict[str, asyncio.Task[list[Wheel]]] = {}
        self._brought = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._minor = ""  # of the head node's Python: pickles do not pass between minor versions
        self._house: Wheelhouse | None = None
        self.message = ""
        self.missing: dict[str, Wanted] = {}  # what no index gave: a client may bring it

    @property
    def store(self) -> Path:
        return self._config().engine_store

    @property
    def house(self) -> Wheelhouse:
        if self._house is None:
            self._house = Wheelhouse(self.store)
        return self._house

    def wheel(self, sha256: str) -> Path | None:
        """Where the wheel with that digest is, for the server of blobs."""
        path = self.house.path(sha256)
        return path if path.exists() else None

    # ------------------------------------------------------------ what nodes get

    async def _shared(self, kind: Kind, wanted: Wanted, environment: dict[str, Any]) -> dict[str, str]:
        """Containers see a directory of this machine: what is installed there once is not unpacked in each of them."""
        place = shared_engines(self._config(), kind)
        own = await asyncio.to_thread(read_engine_facts)
        if not place or (wanted.python, wanted.platform) != (own["python"], platform_of(own)):
            return {}
        return {
            "shared": await self._told(
                Installation(Path(place), environment, None, self._tell, wheels=self.store).share()
            )
        }

    def note_head(self, facts: dict[str, Any]) -> None:
        """The head node's Python is everyone's."""
        self._minor = str((facts.get("engine") or {}).get("python") or "")

    async def for_node(self, kind: Kind, role: str, facts: dict[str, Any]) -> Supplied:
        """`facts`: what the node's agent says of its machine. Waits for the wheels where some are needed. Raises NoEngine."""
        self._loop = asyncio.get_running_loop()
        config = self._config()
        given = given_python(config.spec, kind)
        if given:
            return Supplied(python=given)
        found = dict(facts.get("engine") or {})
        if not found:
            raise NoEngine("engine_mismatch", "its agent is of an older version, which installs no Ray: launch it anew")
        if role != "head":
            self._judge_python(found)
        try:
            if kind.machine == "process":
                return Supplied(python=await self.here(await self._version(found)))
            version = await self._version(found)
            if self._fits(found, version):
                return Supplied()
            wanted = Wanted(version, self._extras(), found["python"], platform_of(found), self._packages())
            environment = environment_of(wanted, await self._wheels(wanted))
            return Supplied(environment=environment | await self._shared(kind, wanted, environment))
        except (NoWheels, EngineUnavailable) as error:
            raise NoEngine("no_engine", str(error)) from error
        except InstallFailed as error:
            raise NoEngine("install_failed", str(error), final=False) from error

    async def here(self, version: str, beside: Iterable[str] = (), *, extras: bool = True) -> str:
        """An interpreter on the head's own machine with that Ray: one of `beside`, the head's own, else one that is
        installed here."""
        for python in (*beside, self._config().engine_python):
            found = await asyncio.to_thread(_look, python)
            if found and found.version == version and (not extras or self._has_all(found.extras, found.packages)):
                return python
        own = await asyncio.to_thread(read_engine_facts)
        wanted = Wanted(version, self._extras(), own["python"], platform_of(own), self._packages())
        environment = environment_of(wanted, await self._wheels(wanted))
        return await self._told(Installation(self.store, environment, None, self._tell).ensure())

    def _judge_python(self, found: dict[str, Any]) -> None:
        if self._minor and found["python"] != self._minor:
            raise NoEngine(
                "engine_mismatch",
                f"it has Python {found['python']}, the head node {self._minor}: Ray needs the same minor version on every "
                "node; take a machine or an image with that one, or set engine.ray.python",
            )

    async def _version(self, found: dict[str, Any]) -> str:
        """The cluster's, decided once and kept: the spec's, else what the first node (the head node) has, else what this
        environment has, else the one that this version of clusterctl was tested with."""
        ray = self._config().spec.ray
        if ray and ray.version:
            return ray.version
        try:
            return str(json.loads(self._note.read_text())["version"])
        except (FileNotFoundError, ValueError, KeyError):
            pass
        version = str(found.get("ray") or "")
        if not self._usable(found):
            own = await asyncio.to_thread(_look, self._config().engine_python)
            version = own.version if own else TESTED_VERSION
        write_private(self._note, json.dumps({"version": version}))
        return version

    def _usable(self, found: dict[str, Any]) -> bool:
        return is_new_enough(str(found.get("ray") or "")) and "default" in (found.get("extras") or ())

    def _fits(self, found: dict[str, Any], version: str) -> bool:
        return found.get("ray") == version and self._has_all(found.get("extras") or (), found.get("packages") or {})

    def _has_all(self, extras: Iterable[str], packages: Mapping[str, str]) -> bool:
        """Whether an environment that was found has what the spec wants beside Ray."""
        return set(self._extras()) <= set(extras) and not lacking(self._packages(), packages)

    def _extras(self) -> tuple[str, ...]:
        return tuple(sorted({"default", *(self._config().spec.ray or Ray()).extras}))

    def _packages(self) -> tuple[str, ...]:
        return plain_requirements((self._config().spec.ray or Ray()).packages)

    # ------------------------------------------------------------ wheels

    async def _wheels(self, wanted: Wanted) -> list[Wheel]:
        """Once for all who want the same."""
        task = self._tasks.get(wanted.key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._tasks[wanted.key] = asyncio.ensure_future(self._get(wanted))
        return await asyncio.shield(task)

    async def _get(self, wanted: Wanted) -> list[Wheel]:
        while True:
            try:
                wheels = await asyncio.to_thread(self.house.get, wanted, self._tell)
            except IndexUnreachable as error:
                log.warning("%s", error)
                self.missing[wanted.key] = wanted
                self._tell(f"{error}; `clusterctl up` brings the wheels of Ray from where it runs")
                self._brought.clear()
                try:
                    await asyncio.wait_for(self._brought.wait(), LOOK_AGAIN)
                except asyncio.TimeoutError:
                    continue
            else:
                self.missing.pop(wanted.key, None)
                self._tell("")
                return wheels

    def bring(self, key: str, wheels: list[Wheel], blobs: BlobStore) -> None:
        """A client has uploaded these as blobs. Raises BadRequest for what nobody waits for, or a blob that is not here."""
        wanted = self.missing.get(key)
        if wanted is None:
            raise BadRequest(f"nobody waits for the wheels {key[:32]!r}: they are here, or the spec has changed")
        for wheel in wheels:
            path = blobs.path(wheel.sha256)
            if not path.exists() or path.stat().st_size != wheel.size:
                raise BadRequest(f"{wheel.file} is not among the blobs of this head: upload it first")
        for wheel in wheels:
            self.house.place(wheel, blobs.path(wheel.sha256))
        self.house.keep(wanted, wheels)
        self._brought.set()

    async def _told(self, installing: Awaitable[str]) -> str:
        """What an installation tells of itself holds while it lasts."""
        try:
            return await installing
        finally:
            self._tell("")

    def _tell(self, text: str) -> None:
        """From any thread."""

        def set_message() -> None:
            if self.message != text:
                self.message = text
                self._changed()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(set_message)


def _look(python: str) -> EngineEnvironment | None:
    """The environment of an interpreter, if its Ray can be used."""
    try:
        return find_environment(python)
    except EngineUnavailable:
        return None
