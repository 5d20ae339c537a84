"""Ray Serve as it is wanted: what was accepted is on disk, and Serve is brought there again and again, whoever was started anew
meanwhile.

Serve tells of nothing by itself. It is looked at often while something is on its way, and now and then while anything is
deployed, since it may have lost its state with Ray's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterctl.core.errors import ClusterctlError, NotFound, Refused, UsageError
from clusterctl.core.serving import (
    LIVE,
    Application,
    Told,
    Version,
    deploy,
    fail,
    follow,
    roll_back,
    served_name,
    switched,
    wanted_of,
    without_leaving,
)
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.serve.ray_serve import (
    OURS,
    RayServe,
    ServeRefused,
    ServeSilent,
    foreign,
    told_of,
)
from clusterctl_runtime.head.serve.records import Records
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)

MOVING_SECONDS = 0.4  # between looks while something is on its way
AGAIN_SECONDS = 2.0  # after one that Serve or Ray did not answer
STEADY_SECONDS = 15.0  # while nothing is
SETTLE_SECONDS = 1.0  # for which a version without its route still takes requests that were under way to it
FIXED = ("proxy_location", "http_options", "grpc_options", "controller_options")  # Serve takes them when it starts only
MOST_APPLICATIONS = 100
_INDEX = re.compile(r"applications\.(\d+)(?:\.(.*))?")


class ServeControl:
    """`defaults()` are the options of a Serve that is about to be started, where the config says none. `engine()` is the
    cluster's Ray."""

    def __init__(
        self,
        directory: Path,
        engine: Callable[[], Any],
        blobs: BlobStore,
        events: EventLog,
        defaults: Callable[[], dict[str, Any]],
        clock: Callable[[], float] = steady_time,
    ) -> None:
        self.records = Records(directory)
        self.serve = RayServe(engine)
        self._engine, self._blobs, self._events, self._defaults = engine, blobs, events, defaults
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._brought: dict[str, str] = {}  # package -> the Ray session that has it
        self._dropped: set[str] = set()  # of those that Ray is not to have, told so since its head was started
        self._switched: dict[str, float] = {}  # application -> when its route was seen in force
        self.trouble = ""  # why Serve could not be looked at, or brought to what is wanted

    # ------------------------------------------------------------ what people ask for

    async def deploy(self, versions: Mapping[str, Version], options: dict[str, Any]) -> list[Application]:
        """All of them are on their way once this returns, or none. Raises UsageError, Refused, NotFound (of a package)."""
        async with self._one_at_a_time:
            before = self.records.applications
            changed = {name: deploy(before.get(name, Application(name)), new) for name, new in versions.items()}
            together = {**before, **changed}
            _check_routes(together)
            if len(together) > MOST_APPLICATIONS:
                raise Refused(f"a cluster serves at most {MOST_APPLICATIONS} applications")
            for version in versions.values():
                if version.package:
                    self._blobs.existing(version.package)
            await self._save(together, self._options(options))
            self._tell_of(before, changed)
        return [changed[name] for name in versions]

    async def roll_back(self, name: str, to: int | None, seconds: float) -> Application:
        async with self._one_at_a_time:
            now = self._clock()
            changed = roll_back(self.application(name), to, now, now + seconds)
            together = {**self.records.applications, name: changed}
            _check_routes(together)
            await self._save(together, self.records.options)
            self._events.add("serve", name, "rollback", f"{name} goes back to what it was before")
        return changed

    async def delete(self, name: str) -> Application:
        """It goes once the requests that it has are answered. Idempotent."""
        async with self._one_at_a_time:
            found = self.application(name)
            ended = Application(name, found.versions, found.leaving, ended=True)
            await self._save({**self.records.applications, name: ended}, self.records.options)
            self._events.add("serve", name, "delete", f"{name} is being deleted")
        return ended

    def application(self, name: str) -> Application:
        """Raises NotFound."""
        if name not in self.records.applications:
            known = ", ".join(sorted(self.records.applications)) or "none"
            raise NotFound(f"no application {name!r} is deployed here (there are: {known})")
        return self.records.applications[name]

    @property
    def working(self) -> int:
        """How many applications answer, or are about to: the cluster is in use also where nobody asks them anything."""
        return sum(bool(a.live or a.rolling) for a in self.records.applications.values())

    def changed(self) -> asyncio.Event:
        """Set when something is another than now."""
        return self._changed

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self.records.options
        if kept is None:
            defaults = self._defaults()
            http = {**defaults["http_options"], **(given.get("http_options") or {})}
            return {**defaults, **given, "http_options": http}
        for key in FIXED:
            if key in given and _differs(given[key], kept.get(key)):
                raise Refused(
                    f"{key} cannot be changed while Serve runs (it is {kept.get(key)}): `clusterctl serve delete --all` first, "
                    "or leave it as it is"
                )
        return {**kept, **{key: value for key, value in given.items() if key not in FIXED}}

    async def _save(self, applications: Mapping[str, Application], options: dict[str, Any] | None) -> None:
        try:
            await self.records.save(applications.values(), options)
        except OSError as error:
            raise ClusterctlError(
                f"the head could not write what is to be served ({error}): nothing was changed"
            ) from error
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._wanted.set()

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wanted.clear()
            pause = None if self.records.options is None else await self._looked()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), pause)

    async def _looked(self) -> float:
        """After how many seconds to look again."""
        try:
            moving = await self.look()
        except ClusterctlError as error:
            self._say(str(error))
            return AGAIN_SECONDS
        except Exception:  # the head goes on; the next look tries again
            log.exception("serve")
            return STEADY_SECONDS
        return MOVING_SECONDS if moving else STEADY_SECONDS

    async def look(self) -> bool:
        """One look at Serve, and what follows from it; whether something is on its way."""
        try:
            details = await self.serve.details()
        except ServeRefused as error:
            await self._without_serve(error)
            return False
        told = told_of(details)
        async with self._one_at_a_time:
            before = self.records.applications
            after = {name: self._after(application, told) for name, application in before.items()}
            rows = details.get("applications") or {}
            after = {name: application for name, application in after.items() if not _is_gone(application, rows)}
            if after != before:
                await self._save(after, self.records.options)
                self._tell_of(before, after)
        await self._converge(details, told)
        self._say("")
        return any(a.rolling or a.leaving or a.ended for a in self.records.applications.values())

    async def _without_serve(self, error: ServeRefused) -> None:
        """This Ray has none, so that nothing can run, and nothing is there to be deleted."""
        self._say(str(error))
        async with self._one_at_a_time:
            before = self.records.applications
            after = {
                name: fail(application, str(error)) for name, application in before.items() if not application.ended
            }
            if after != before:
                await self._save(after, self.records.options if after else None)
                self._tell_of(before, after)

    def _after(self, application: Application, told: Mapping[str, Told]) -> Application:
        after = follow(application, told, self._clock())
        if not after.leaving or not switched(after, told):
            self._switched.pop(application.name, None)
            return after
        since = self._switched.setdefault(application.name, self._clock())
        if self._clock() - since < SETTLE_SECONDS:
            return after
        del self._switched[application.name]
        return without_leaving(after)

    async def _converge(self, details: Mapping[str, Any], told: Mapping[str, Told]) -> None:
        applications = self.records.applications
        wanted = {n: w for a in applications.values() for n, w in wanted_of(a).items()}
        ours = {name: one for name, one in told.items() if OURS.fullmatch(name)}
        others = foreign(details)
        for version, _ in wanted.values():
            await self._bring(version.package)
        if not applications and not ours:
            await self._end_serve(bool(details.get("applications")))
        elif {name: route for name, (_, route) in wanted.items()} != {n: one.route_asked for n, one in ours.items()}:
            rows = [_config_of(name, version, route) for name, (version, route) in wanted.items()]
            try:
                await self.serve.apply({**(self.records.options or {}), "applications": [*rows, *others]})
            except ServeRefused as error:
                await self._refused(error, list(wanted))
        await self._forget_packages({version.package for version, _ in wanted.values()})

    async def _end_serve(self, has_others: bool) -> None:
        if not has_others:
            await self.serve.shut_down()
        async with self._one_at_a_time:
            if not self.records.applications:
                await self._save({}, None)

    async def _refused(self, error: ServeRefused, names: Sequence[str]) -> None:
        """What is on its way has failed, as far as Serve says whose fault it is."""
        blamed: dict[str, list[tuple[str, str]]] = {}
        for path, message in error.faults:
            match = _INDEX.fullmatch(path)
            if match and int(match[1]) < len(names):
                owner = OURS.fullmatch(names[int(match[1])])
                blamed.setdefault(owner["name"] if owner else "", []).append((match[2] or "", message))
        async with self._one_at_a_time:
            before = self.records.applications
            guilty = {n for n in blamed if n in before and before[n].rolling} or {
                n for n, a in before.items() if a.rolling
            }
            if not guilty:
                raise ServeSilent(str(error))
            failed = {
                name: fail(before[name], _sentence(error, blamed.get(name)), blamed.get(name, ())) for name in guilty
            }
            await self._save({**before, **failed}, self.records.options)
            self._tell_of(before, failed)

    # ------------------------------------------------------------ packages

    async def _bring(self, package: str) -> None:
        """Ray has the archive, and keeps it also while no replica uses it."""
        session = self._engine().session
        if not package or self._brought.get(package) == session:
            return
        sent = await self._engine().helper().bring_package(package_uri(package), self._blobs.existing(package))
        self._brought[package] = session
        self._dropped.discard(package)
        log.info("package %s %s", package[:12], "was given to Ray" if sent else "is with Ray")

    async def _forget_packages(self, needed: set[str]) -> None:
        for package in (self.records.packages() | self._brought.keys()) - needed - self._dropped:
            await self._engine().helper().drop_package(package_uri(package))
            self._brought.pop(package, None)
            self._dropped.add(package)

    def ray_is_ready(self) -> None:
        """Ray's head or its GCS was started, or started again: a GCS forgets what was pinned."""
        self._brought.clear()
        self._dropped.clear()
        self._wanted.set()

    # ------------------------------------------------------------ what is told

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                log.warning("serve: %s", trouble)
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def _tell_of(self, before: Mapping[str, Application], after: Mapping[str, Application]) -> None:
        for name, application in after.items():
            old = {version.number: version.state for version in before.get(name, Application(name)).versions}
            for version in application.versions:
                if old.get(version.number) != version.state:
                    why = f": {version.detail.splitlines()[-1]}" if version.detail and version.state != LIVE else ""
                    text = f"version {version.number} of {name} is {version.state}{why}"
                    self._events.add("serve", name, version.state, text)
        for name in before.keys() - after.keys():
            self._events.add("serve", name, "deleted", f"{name} is deleted")


def package_uri(digest: str) -> str:
    """What Ray calls an archive that it is given."""
    return f"gcs://_ray_pkg_{digest}.zip"


def _config_of(name: str, version: Version, route: str | None) -> dict[str, Any]:
    config = {**version.config, "name": name, "route_prefix": route}
    if version.package:
        config["runtime_env"] = {**(config.get("runtime_env") or {}), "working_dir": package_uri(version.package)}
    return config


def _check_routes(applications: Mapping[str, Application]) -> None:
    """Raises UsageError where two applications want one route."""
    taken: dict[str, str] = {}
    for application in applications.values():
        for version in (application.live, application.rolling):
            if version is None or version.route is None or application.ended:
                continue
            other = taken.setdefault(version.route, application.name)
            if other != application.name:
                raise UsageError(
                    f"{other!r} and {application.name!r} both want the route {version.route!r}: give one another"
                )


def _is_gone(application: Application, rows: Mapping[str, Any]) -> bool:
    """Serve has nothing of it any more, also none that it is still deleting."""
    names = {served_name(application.name, version.number) for version in application.versions}
    return application.ended and not names & rows.keys()


def _sentence(error: ServeRefused, blamed: Sequence[tuple[str, str]] | None) -> str:
    if not blamed:
        return str(error)
    return "Serve does not take it: " + "; ".join(f"{path or 'it'}: {message}" for path, message in blamed)


def _differs(given: Any, kept: Any) -> bool:
    if isinstance(given, dict) and isinstance(kept, dict):
        return any(value != kept.get(key) for key, value in given.items())
    return given != kept
