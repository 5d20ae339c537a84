"""`clusterctl plan`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.plan import render_plan
from clusterctl.client.head.api import Api
from clusterctl.client.place import where, where_of
from clusterctl.client.project import other_project
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, SpecFiles, read_places
from clusterctl.core.errors import Unreachable

CHANGES = 10  # exit code of `--exit-code` when there is something to do


@verb
def plan(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.")] = Path("cluster.yaml"),
    place: Annotated[
        str,
        typer.Option(
            metavar="CLOUD[/REGION]", help="Of the places that the spec lists, only those.", show_default=False
        ),
    ] = "",
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 when there is something to do, else 0.")
    ] = False,
) -> int:
    """Show what `up` would change, and what it costs before and after.

    Of several places that the spec lists: which is tried first, what each costs, and why one is out. Ends with 1 when all are.

    \b
    Example:
      clusterctl plan cluster.yaml --exit-code
    """
    document = plan_of(Registry(), read_places(spec), place)
    call.show(document, render_plan)
    if document.get("places") and not document["place"]:
        return 1
    return CHANGES if exit_code and document.get("actions") else 0


def plan_of(registry: Registry, files: SpecFiles, start: str = "") -> dict[str, Any]:
    """The running cluster's own answer; for a cluster without a head, all that its spec asks for, in the first place of those
    that begin with `start` that is of use."""
    from clusterctl.client.up.review import check_names
    from clusterctl.spec.lifetime import check_to_come

    for one in files.each:
        check_to_come(one.spec, one.located, time.time())
    warnings = [str(fault) for one in files.each for fault in check_names(one)] if not files.listed else []
    if (other := other_project(registry, files.name, files.path)) is not None:
        warnings.append(f"the cluster {files.name!r} that is known here is that of {other}: `up` refuses this spec")
    chosen = files.beginning(start)
    if files.name in registry.names():
        cluster = registry.load(files.name)
        here = where(cluster)
        source = next((one for one in chosen if where_of(one) == here), chosen[0])
        try:
            with Api.of(cluster) as api:
                document = api.post("/api/v1/plan", {"yaml": source.text})
                return document | {"place": source.place, "warnings": [*warnings, *document["warnings"]]}
        except Unreachable as error:
            warnings.append(f"{error}. What it has is not counted here: this is what a new cluster would get")
        if not cluster.trying:
            chosen = (source,)
    return _plan_new(registry, files, chosen, warnings)


def _plan_new(
    registry: Registry, files: SpecFiles, chosen: tuple[SpecFile, ...], warnings: list[str]
) -> dict[str, Any]:
    from clusterctl.client.up.engine_wheels import install_note
    from clusterctl.client.up.planning import plan_new
    from clusterctl.spec.lifetime import lifetime_notes
    from clusterctl.spec.network import network_notes

    note = install_note(chosen[0].spec, registry.home / "engines")
    said = {"notes": [*([note] if note else []), *network_notes(chosen[0].spec), *lifetime_notes(chosen[0].spec)]}
    if not files.listed:
        document = plan_new(chosen[0]) | {"place": chosen[0].place}
        return document | {"warnings": [*warnings, *document["warnings"]]} | said
    from clusterctl.client.up.survey import in_order, look_at_all, plan_somewhere

    document = plan_somewhere(files.name, in_order(look_at_all(chosen), cheapest=files.cheapest))
    return document | {"warnings": [*warnings, *document["warnings"]]} | said
