"""`clusterctl gc`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.text import columns
from clusterctl.client.cleaning import collect_strays
from clusterctl.client.registry import Registry


@verb
def gc(
    call: Call,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be removed.")] = False,
) -> int:
    """Find and remove what no cluster known here owns.

    \b
    Example:
      clusterctl gc --dry-run
    """
    strays = [vars(stray) for stray in collect_strays(Registry(), dry_run=dry_run)]
    document = {
        "dry_run": dry_run,
        "strays": [stray | {"instance_ids": list(stray["instance_ids"])} for stray in strays],
    }
    call.show(document, render)
    return 1 if any(stray["error"] for stray in strays) else 0


def render(document: dict[str, Any]) -> str:
    rows = [
        [
            stray["provider"],
            stray["cluster"],
            stray["uid"][:8],
            str(len(stray["instance_ids"])),
            stray["error"] or ("removed" if stray["removed"] else "would be removed"),
        ]
        for stray in document["strays"]
    ]
    return (
        columns(["provider", "cluster", "uid", "instances", ""], rows, right=(3,))
        if rows
        else "nothing without an owner"
    )
