"""`clusterctl gc`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.text import columns
from clusterctl.client.down.gc import collect_strays
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import read_places


@verb
def gc(
    call: Call,
    spec: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SPEC", help="Look where this spec has its nodes, too.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be removed.")] = False,
) -> int:
    """Find and remove what no cluster known here owns.

    Searched are this machine, Docker, clouds where this user has credentials, and whatever the clusters known here use, by
    the uid in the tags. What has its head elsewhere is left alone. Another region or account is looked at with a spec that
    names it, and so are hosts reached by SSH; one whose cluster has a head that lives, or had one half an hour ago, is left
    alone.

    \b
    Examples:
      clusterctl gc --dry-run
      clusterctl gc cluster.yaml
    """
    source = read_places(spec) if spec else None
    strays = [vars(stray) for stray in collect_strays(Registry(), source, call.say, dry_run=dry_run)]
    document = {
        "dry_run": dry_run,
        "strays": [stray | {"instance_ids": list(stray["instance_ids"])} for stray in strays],
    }
    call.show(document, render)
    return 1 if any(stray["error"] for stray in strays) else 0


def render(document: dict[str, Any]) -> str:
    """The document of `gc`: each stray, and what became of it or would."""
    rows = [
        [
            f"{stray['provider']} ({stray['where']})" if stray["where"] else stray["provider"],
            stray["cluster"],
            stray["uid"][:8],
            str(len(stray["instance_ids"])),
            stray["error"] or stray["spared"] or ("removed" if stray["removed"] else "would be removed"),
        ]
        for stray in document["strays"]
    ]
    return (
        columns(["provider", "cluster", "uid", "instances", ""], rows, right=(3,))
        if rows
        else "nothing without an owner"
    )
