"""`clusterctl env`: Ray's own tools against a cluster."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.behind_dashes import BehindDashes
from clusterctl.cli.call import Call, verb
from clusterctl.client.nodes.access import shell_code
from clusterctl.client.ray.environment import SHELLS, reached, render_shell, run, unlike
from clusterctl.core.errors import UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(cls=BehindDashes, name="env", options_metavar="[OPTIONS] [-- CMD...]")
@verb
def env(
    call: Call,
    shell: Annotated[str, typer.Option(metavar="SHELL", help=f"For which shell: {' or '.join(SHELLS)}.")] = "sh",
) -> int:
    """Set what Ray's own tools need to speak to the cluster, from here.

    For eval, or for one command behind --. Then `ray status`, `ray list`, `ray job`, `serve status` and
    ray.init(os.environ["CLUSTERCTL_RAY_CLIENT"]) mean this cluster, wherever it is.

    \b
    Examples:
      eval "$(clusterctl env)"
      clusterctl env --shell fish | source
      clusterctl env -- ray job list
    """
    assert call.context is not None
    command: list[str] = call.context.meta["clusterctl.command"]
    if shell not in SHELLS:
        raise UsageError(f"--shell {shell} is not known: {' or '.join(SHELLS)}")
    found = reached(call.cluster())
    if trouble := unlike(found, os.environ.get("PATH", os.defpath)):
        call.say(trouble)
    if command:
        return shell_code(run(found, command))
    if call.json:
        output.write_json(found.document())
    else:
        output.write_line(render_shell(found, shell))
    return 0
