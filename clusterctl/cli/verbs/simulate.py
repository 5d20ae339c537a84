"""`clusterctl simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clusterctl.cli.call import Call, verb


@verb
def simulate(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.")],
    place: Annotated[
        str, typer.Option(metavar="CLOUD[/REGION]", help="Which of the places that the spec lists.", show_default=False)
    ] = "",
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Jobs to replay [default: a small sample].", show_default=False)
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="default, ray-v2, karpenter, fixed or fixed:SHARE; repeat it [default: all].",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a report that needs no network.", show_default=False)
    ] = None,
    world: Annotated[str, typer.Option(metavar="NAME", help="The cloud's mood: calm, typical or scarce.")] = "typical",
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same run.")] = 1,
) -> None:
    """Replay a trace of jobs through the autoscaler: waits, $ and use per policy.

    \b
    Example:
      clusterctl simulate cluster.yaml --trace jobs.csv --policy default --policy ray-v2 --html report.html
    """
    from clusterctl.simulation.command import POLICIES
    from clusterctl.simulation.command import simulate as run
    from clusterctl.simulation.table import render_table

    document = run(spec, trace, policy or POLICIES, html, seed, world=world, place=place, progress=call.say)
    call.show(document, render_table)
    if html is not None:
        call.say(f"wrote {html}")
