"""`clusterctl up`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.plan import destructive, render_plan
from clusterctl.cli.render.progress import make_progress
from clusterctl.cli.render.timeline import check_timeline_path, write_timeline
from clusterctl.cli.verbs.plan import plan_of
from clusterctl.client.head.api import Api, follow
from clusterctl.client.lock import changing
from clusterctl.client.nodes.node_list import Lookout
from clusterctl.client.project import refuse_other_project
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_places
from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.client.up.engine_wheels import bring_wheels, install_note
from clusterctl.client.up.had import PLACE_SECONDS, Had
from clusterctl.client.up.launch import Started, bring_up
from clusterctl.client.up.placing import Placing
from clusterctl.client.up.readiness import Readiness
from clusterctl.client.up.timeline import Stopwatch, collect
from clusterctl.core.errors import ClusterctlError, ProviderError, Refused, UsageError
from clusterctl.spec.faults import SpecError

SETUPS_SHOWN, SETUP_LINES = 2, 15
HEAD_PATIENCE = 60.0  # seconds for which the head may not answer while so much starts around it
LOOK_SECONDS = 1.0  # where nothing changes for so long, the watch is begun anew and gives its first document


@verb
def up(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.")] = Path("cluster.yaml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before nodes are drained or replaced.")] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Give up waiting after so long, as in 90s or 20m.")
    ] = "20m",
    plan: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Carry out this plan (from `plan SPEC --json`) and no other; asks nothing."),
    ] = None,
    place: Annotated[
        str,
        typer.Option(
            metavar="CLOUD[/REGION]", help="Of the places that the spec lists, only those.", show_default=False
        ),
    ] = "",
    move_spec: Annotated[
        bool, typer.Option("--move-spec", help="This file is the cluster's from now on, and not the one elsewhere.")
    ] = False,
    timeline: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="Write where the seconds went: a .html page, and its trace as .json beside it."
        ),
    ] = None,
) -> None:
    """Make the cluster be as the spec says; again does no harm.

    Returns when the head and every pool's min are ready. Running jobs are not touched unless the plan says so. Where the spec
    lists several places, the first that has what the pools need is taken, and kept.

    \b
    Example:
      clusterctl up cluster.yaml
    """
    began, stopwatch = time.monotonic(), Stopwatch()
    stopwatch.begin("read the spec")
    if timeline is not None:
        check_timeline_path(timeline)
    from clusterctl.spec.lifetime import check_to_come
    from clusterctl.spec.support import check_supported

    def tell(text: str) -> None:
        stopwatch.begin(text)
        call.say(text)

    patience = duration("--timeout", timeout)
    files = read_places(spec)
    for source in files.each:
        check_supported(source.spec, source.located)
        check_to_come(source.spec, source.located, time.time())
    registry = Registry()
    _announce_engine(files.each[0], registry, tell)
    with changing(registry, files.name, "up"):
        if not move_spec:
            refuse_other_project(registry, files.name, spec)
        if plan is not None:
            shown, now = read_plan(plan), plan_of(registry, files, place)
            _check_same(shown, now, plan, spec)
            place = now.get("place") or place  # what was shown is one place
        placing = Placing(registry, files, place, tell)
        attempt = Attempt(call, registry, placing, yes or plan is not None, patience, stopwatch, timeline)
        started, status = attempt.somewhere()
    document = {
        "cluster": started.cluster.name,
        "uid": started.cluster.uid,
        "place": started.cluster.place,
        "passed_over": [{"place": where, "why": why} for where, why in placing.passed],
        "head": started.head,
        "spec_changed": started.spec_changed,
        "seconds": round(time.monotonic() - began, 3),
        "pools": status.get("pools", []),
        "lifetime": status.get("lifetime"),
    }
    call.show(document, _render_done)


@dataclass(frozen=True)
class Attempt:
    """What one `up` does in each place that it tries."""

    call: Call
    registry: Registry
    placing: Placing
    yes: bool
    patience: float
    stopwatch: Stopwatch
    timeline: Path | None

    def somewhere(self) -> tuple[Started, dict[str, Any]]:
        """What was started, and the status of the cluster, which is ready. Raises ClusterctlError."""
        for source, trial in self.placing.candidates():
            settle = partial(self.placing.settle, source) if trial else None
            try:
                return self._here(source, settle)
            except (NotToBeHad, ProviderError, SpecError) as error:
                if not trial or not self.placing.is_open(source):
                    raise
                self.placing.pass_over(source, error)
        raise self.placing.nowhere()

    def _here(self, source: SpecFile, settle: Callable[[], None] | None) -> tuple[Started, dict[str, Any]]:
        call, stopwatch, patience = self.call, self.stopwatch, self.patience
        stopwatch.begin("look for a head")
        started = bring_up(
            self.registry,
            source,
            self.placing.tell,
            lambda api: _confirm(call, api, source.text, self.yes),
            patience if settle is None else min(patience, PLACE_SECONDS),
            trial=settle is not None,
        )
        stopwatch.begin("wait for the nodes")
        try:
            status = _wait(call, started, patience, stopwatch, self.registry.home / "engines", settle)
        finally:
            if self.timeline is not None:
                _write_timeline(call, self.timeline, stopwatch, started)
        return started, status


class NotReady(ClusterctlError):
    """The cluster is not ready: `why` says what is missing, in several lines."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}\n  the cluster stays as it is: `clusterctl events` tells more, `up` again goes on, `down` ends it"
        )
        self.why = why


def read_plan(path: Path) -> dict[str, Any]:
    """Of a file of `plan --json`, the parts that have to be the same when it is carried out. Raises UsageError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        parts = {"cluster": document["cluster"], "actions": document["actions"], "cost": document["cost"]}
        return parts | {"place": document.get("place", "")}
    except OSError as error:
        raise UsageError(f"the plan {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no plan: write one with `clusterctl plan SPEC --json > {path}`") from error


def _check_same(shown: dict[str, Any], now: dict[str, Any], path: Path, spec: Path) -> None:
    """What was shown is what is carried out: any difference, in the cluster, its spec or the prices, is a refusal."""
    changed = [part for part in ("cluster", "place", "actions", "cost") if shown[part] != now.get(part, "")]
    if changed:
        raise Refused(
            f"the plan in {path} is not what `up` would do now (its {' and '.join(changed)} differ): nothing was changed. "
            f"Look at `clusterctl plan {spec}` and write it anew"
        )


def _write_timeline(call: Call, path: Path, stopwatch: Stopwatch, started: Started) -> None:
    """Also of an `up` that failed, which is when it is needed most."""
    with Api.of(started.cluster) as api:
        document = collect(stopwatch, api, started.cluster.name)
    try:
        written = write_timeline(path, document)
    except OSError as error:
        raise ClusterctlError(f"the timeline could not be written to {path}: {error.strerror}") from error
    call.say(f"timeline: {' and '.join(map(str, written))}")


def _announce_engine(source: SpecFile, registry: Registry, tell: Callable[[str], None]) -> None:
    """Ray's installation is said before it takes its time: of a new cluster, and where this machine lacks it."""
    known = (registry.home / "clusters" / source.name).exists() and source.spec.kind.machine != "process"
    if not known and (text := install_note(source.spec, registry.home / "engines")):
        tell(text)


def _confirm(call: Call, api: Api, text: str, yes: bool) -> None:
    """Shows what the new spec would take down, and asks; refuses where nobody can be asked."""
    if yes:
        return
    try:
        plan = api.post("/api/v1/plan", {"yaml": text})
    except ClusterctlError as error:
        raise ClusterctlError(
            f"what the new spec would take down could not be told ({error}): pass -y to put it in force all the same"
        ) from error
    actions = destructive(plan)
    if not actions:
        return
    call.say(render_plan({**plan, "actions": actions}))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ClusterctlError("the new spec drains or replaces nodes: look at `clusterctl plan SPEC`, then pass -y")
    if not typer.confirm("Go on?", err=True):
        raise ClusterctlError("nothing was changed")


def _wait(
    call: Call,
    started: Started,
    patience: float,
    stopwatch: Stopwatch,
    engines: Path,
    settle: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Follows the cluster until it is ready; raises ClusterctlError that says what is missing, node by node. `engines` keeps
    the wheels that a head without a package index is sent. `settle` is called once all machines are there, of a place among
    several; NotToBeHad is raised where they will not come."""
    readiness, deadline = Readiness(shortage=started.shortage), time.monotonic() + patience
    with Api.of(started.cluster) as api, make_progress(call.quiet) as progress, closing(_statuses(api)) as statuses:
        lookout, had = Lookout(api), Had(api)
        for status in statuses:
            sight = lookout.look(status)
            stopwatch.saw(sight.nodes)
            done = readiness.feed(status, sight.nodes)
            progress.show(status, sight, readiness.waiting)  # also of the last look, which may be the first
            if settle is not None and had.look(status, readiness):
                settle()
                settle = None
            if done:
                return status
            if readiness.hopeless:
                raise NotReady(_why_not(started, readiness, "gave up") + _setup_output(api, readiness))
            bring_wheels(api, engines, status, call.say)
            if time.monotonic() > deadline:
                raise NotReady(_why_not(started, readiness, f"not ready after {patience:g} s"))
    raise NotReady(_why_not(started, readiness, "its head ended"))


def _statuses(api: Api) -> Generator[dict[str, Any], None, None]:
    """Every change, and a document now and then without one, so that time can run out."""
    yield from follow(lambda: api.stream("/api/v1/status", silence=LOOK_SECONDS, watch=1), patience=HEAD_PATIENCE)


def _setup_output(api: Api, readiness: Readiness) -> str:
    """The end of what failed setups printed, of a few nodes: they mostly fail for the same reason."""
    parts: list[str] = []
    for node_id in list(readiness.setup_failed)[:SETUPS_SHOWN]:
        try:
            output = str(api.get(f"/api/v1/nodes/{node_id}/setup").get("output") or "").rstrip()
        except ClusterctlError:
            continue  # the reason has its last lines
        lines = [f"    {one_line(line)}" for line in output.splitlines()[-SETUP_LINES:]]
        if lines:
            parts.append(
                "\n".join([f"\n  setup of {node_id} printed last (all of it: `clusterctl logs {node_id}`):", *lines])
            )
    return "".join(parts)


def _why_not(started: Started, readiness: Readiness, what: str) -> str:
    failed = list(dict.fromkeys(readiness.hopeless or readiness.failures[-3:]))
    lines = [f"cluster {started.cluster.name!r}: {what}"]
    lines += [f"  waiting for {text}" for text in readiness.waiting if text not in failed]
    lines += [f"  failed: {text}" for text in failed]
    return "\n".join(lines)


def _render_done(document: dict[str, Any]) -> str:
    pools = ", ".join(f"{p['name']} {p.get('ready', 0)} ready (max {p.get('max')})" for p in document["pools"])
    where = f" in {document['place']}" if document["place"] else ""
    end = f"\nit {one_line(document['lifetime']['text'])}" if document["lifetime"] else ""
    return f"cluster {document['cluster']} is up{where} after {document['seconds']:.1f} s" + (
        f": {pools}{end}" if pools else end
    )
