"""`clusterctl plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.plan import render_plan
from clusterctl.client.head.api import Api
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, read_spec
from clusterctl.core.errors import Unreachable

CHANGES = 10  # exit code of `--exit-code` when there is something to do


@verb
def plan(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.")],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 when there is something to do, else 0.")
    ] = False,
) -> int:
    """Show what `up` would change, and what it costs before and after.

    \b
    Example:
      clusterctl plan cluster.yaml --exit-code
    """
    document = plan_of(Registry(), read_spec(spec))
    call.show(document, render_plan)
    return CHANGES if exit_code and document.get("actions") else 0


def plan_of(registry: Registry, source: SpecFile) -> dict[str, Any]:
    """The running cluster's own answer; for a cluster without a head, all that its spec asks for."""
    warnings: list[str] = []
    if source.name in registry.names():
        try:
            with Api.of(registry.load(source.name)) as api:
                return api.post("/api/v1/plan", {"yaml": source.text})
        except Unreachable as error:
            warnings.append(f"{error}. What it has is not counted here: this is what a new cluster would get")
    from clusterctl.client.up.engine_wheels import install_note
    from clusterctl.client.up.planning import plan_new
    from clusterctl.spec.network import network_notes

    document = plan_new(source)
    note = install_note(source.spec, registry.home / "engines")
    notes = [*([note] if note else []), *network_notes(source.spec)]
    return document | {"warnings": [*warnings, *document["warnings"]], "notes": notes}
