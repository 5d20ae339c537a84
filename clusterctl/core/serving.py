"""Versions of Ray Serve's applications: which of them Serve is to have, and what follows from what it tells. Pure.

A new version is an application of its own in Serve, NAME~NUMBER, behind a route of its own, until it runs and is healthy. Then
the two change their routes in one step, and the old one goes. A version that fails never had the route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clusterctl.core.errors import NotFound, Refused

ROLLING, LIVE, FORMER, FAILED, DROPPED = "rolling", "live", "former", "failed", "dropped"
KEPT = 10  # versions of an application that have been live, beside those in use
RUNNING = "RUNNING"
BROKEN = {
    "DEPLOY_FAILED": "Serve could not deploy it",
    "UNHEALTHY": "it is not healthy",
}


@dataclass(frozen=True)
class Version:
    """`config`: an application as Serve's schema has it, without its name and route. `route`: None for one without HTTP.
    `package`: the digest of its directory, "" for none. `of`: the version whose content it has, its own number where that is
    new. `created` and `until` (when it is given up, if it has not run by then) are unix seconds. `detail`: what it waits for, or
    how it ended. `faults`: what Serve does not take of its config, as (dotted path, message)."""

    number: int
    config: Mapping[str, Any]
    route: str | None
    package: str
    of: int
    created: float
    until: float
    state: str = ROLLING
    detail: str = ""
    faults: tuple[tuple[str, str], ...] = ()

    def same_content(self, other: Version) -> bool:
        return (self.config, self.route, self.package) == (other.config, other.route, other.package)


@dataclass(frozen=True)
class Application:
    """`versions`: by number. At most one is rolling, at most one live. `leaving`: those without traffic that Serve may still
    have. `ended`: it is being deleted."""

    name: str
    versions: tuple[Version, ...] = ()
    leaving: tuple[int, ...] = ()
    ended: bool = False

    def in_state(self, state: str) -> Version | None:
        """The newest one in that state."""
        return next((version for version in reversed(self.versions) if version.state == state), None)

    @property
    def rolling(self) -> Version | None:
        return self.in_state(ROLLING)

    @property
    def live(self) -> Version | None:
        return self.in_state(LIVE)

    def version(self, number: int) -> Version:
        found = next((version for version in self.versions if version.number == number), None)
        if found is None:
            known = ", ".join(str(version.number) for version in self.versions)
            raise NotFound(f"application {self.name!r} has no version {number}: it has {known}")
        return found


@dataclass(frozen=True)
class Told:
    """What Serve tells of one application: `route_asked` is what it was last told to have, `route` what is in force."""

    status: str
    message: str = ""
    route_asked: str | None = None
    route: str | None = None
    deployments: Mapping[str, str] = field(
        default_factory=dict[str, str]
    )  # name -> message, of those that are not healthy


def served_name(name: str, number: int) -> str:
    """What that version is called in Serve."""
    return f"{name}~{number}"


def hidden_route(name: str, version: Version) -> str | None:
    """Where it is without traffic."""
    return None if version.route is None else f"/{served_name(name, version.number)}"


def wanted_of(application: Application) -> dict[str, tuple[Version, str | None]]:
    """Name in Serve -> version and route, of what Serve is to have of it now."""
    if application.ended:
        return {}
    found: dict[str, tuple[Version, str | None]] = {}

    def add(version: Version, route: str | None) -> None:
        found[served_name(application.name, version.number)] = (version, route)

    live, rolling = application.live, application.rolling
    for number in application.leaving:
        version = application.version(number)
        add(version, hidden_route(application.name, version))
    if live is not None:
        add(live, live.route)
    if rolling is not None:
        add(rolling, rolling.route if live is None else hidden_route(application.name, rolling))
    return found


# ------------------------------------------------------------ what people want


def deploy(application: Application, new: Version) -> Application:
    """With this version on its way; unchanged where the newest that is wanted has the same content. `new.number` is given
    here. Raises Refused while it is being deleted."""
    if application.ended:
        raise Refused(
            f"application {application.name!r} is being deleted: deploy it once `serve status` shows it no more"
        )
    wanted = application.rolling or application.live
    if wanted is not None and wanted.same_content(new):
        return application
    number = max((version.number for version in application.versions), default=0) + 1
    return _with(_without_rolling(application, number), replace(new, number=number, of=new.of or number))


def roll_back(application: Application, to: int | None, now: float, until: float) -> Application:
    """To the version that was live before this one, or to `to`. One that is on its way is dropped, and where `to` is not said
    that is all. Raises Refused where there is none, NotFound for an unknown one."""
    live = application.live
    if to is None:
        if application.rolling is not None and live is not None:
            return _without_rolling(application, live.number)
        to = _before(application)
    old = application.version(to)
    if old.state in (FAILED, DROPPED):
        raise Refused(f"version {to} of {application.name!r} never ran ({old.state}): roll back to one that did")
    if live is not None and live.number == old.number:
        return _without_rolling(application, live.number)
    return deploy(application, replace(old, of=old.of, created=now, until=until, state=ROLLING, detail=""))


def _before(application: Application) -> int:
    live = application.live
    newest = live.of if live is not None else max((v.number for v in application.versions), default=0) + 1
    found = [v.number for v in application.versions if v.state == FORMER and v.of < newest]
    if not found:
        what = f"version {live.number}" if live is not None else "it"
        raise Refused(f"no version of {application.name!r} was live before {what}: there is nothing to go back to")
    return max(found, key=lambda number: (application.version(number).of, number))


def _without_rolling(application: Application, instead: int) -> Application:
    rolling = application.rolling
    if rolling is None:
        return application
    dropped = replace(rolling, state=DROPPED, detail=f"version {instead} was wanted instead")
    return _with(application, dropped)


def _with(application: Application, *changed: Version) -> Application:
    by_number = {version.number: version for version in (*application.versions, *changed)}
    return replace(application, versions=tuple(by_number[number] for number in sorted(by_number)))


# ------------------------------------------------------------ what follows from what Serve tells


def follow(application: Application, told: Mapping[str, Told], now: float) -> Application:
    """After a look at Serve. What is to be asked of it afterwards is `wanted_of` the answer."""
    rolling = application.rolling
    if application.ended or rolling is None:
        return application
    seen = told.get(served_name(application.name, rolling.number))
    wanted_route = wanted_of(application)[served_name(application.name, rolling.number)][1]
    if seen is not None and seen.status == RUNNING and seen.route == wanted_route:
        return _go_live(application, rolling)
    if seen is not None and seen.status in BROKEN:
        return fail(application, f"{BROKEN[seen.status]}: {_why(seen)}")
    if now >= rolling.until:
        late = f"it was not ready {rolling.until - rolling.created:.0f} s after it was deployed"
        return fail(application, f"{late}: {_why(seen)}" if seen and _why(seen) else late)
    detail = _why(seen) if seen else ""
    return application if detail == rolling.detail else _with(application, replace(rolling, detail=detail))


def fail(application: Application, why: str, faults: Sequence[tuple[str, str]] = ()) -> Application:
    """The version that is on its way has failed."""
    rolling = application.rolling
    if rolling is None:
        return application
    return _with(application, replace(rolling, state=FAILED, detail=why, faults=tuple(faults)))


def switched(application: Application, told: Mapping[str, Told]) -> bool:
    """Whether the live version has its route in force, so that those which are leaving have no new requests."""
    live = application.live
    if live is None:
        return True
    seen = told.get(served_name(application.name, live.number))
    return seen is not None and seen.route == live.route


def without_leaving(application: Application) -> Application:
    """Serve has no more to do for the versions before the live one; the oldest of those that failed or were are forgotten."""
    former = [v for v in application.versions if v.state not in (ROLLING, LIVE)]
    forgotten = {v.number for v in former[: max(0, len(former) - KEPT)]}
    kept = tuple(v for v in application.versions if v.number not in forgotten)
    return replace(application, versions=kept, leaving=())


def _go_live(application: Application, rolling: Version) -> Application:
    live = application.live
    changed = [replace(rolling, state=LIVE, detail="")]
    if live is not None:
        changed.append(replace(live, state=FORMER))
        application = replace(application, leaving=(*application.leaving, live.number))
    return _with(application, *changed)


def _why(told: Told) -> str:
    parts: Sequence[str] = [f"{name}: {message}" for name, message in told.deployments.items() if message]
    return " ".join([*([told.message] if told.message else []), *parts]).strip()
