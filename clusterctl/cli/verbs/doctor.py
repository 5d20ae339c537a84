"""`clusterctl doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.output import paint
from clusterctl.cli.render.text import columns
from clusterctl.client.doctor.machine import diagnose
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import read_places


@verb
def doctor(
    call: Call,
    spec: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SPEC", help="Ask its cloud for what this spec needs.", show_default=False),
    ] = None,
) -> int:
    """Check this machine, and what the clusters known here or a spec need, and say what to mend.

    Ends with 1 when something that every cluster needs is missing, or something that SPEC needs of its cloud.

    \b
    Examples:
      clusterctl doctor cluster.yaml
      clusterctl doctor --json
    """
    specs = [source.spec for source in read_places(spec).each] if spec else []
    checks = [vars(check) for check in diagnose(Registry(), *specs)]
    call.show({"ok": all(check["ok"] or not check["needed"] for check in checks), "checks": checks}, render)
    return 0 if all(check["ok"] or not check["needed"] for check in checks) else 1


def render(document: dict[str, Any]) -> str:
    """The document of `doctor`; what is not there is MISSING only where it is needed."""
    rows = [
        [
            paint("ok", "green")
            if check["ok"]
            else paint("MISSING", "red")
            if check["needed"]
            else paint("absent", "yellow"),
            check["name"],
            check["found"],
            "" if check["ok"] else check["fix"],
        ]
        for check in document["checks"]
    ]
    return columns(["", "check", "found", "what to do"], rows)
