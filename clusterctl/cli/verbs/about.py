"""`clusterctl version` and `clusterctl completion`."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.completing import SHELLS, script
from clusterctl.core.errors import UsageError
from clusterctl.version import __version__


@verb
def version(call: Call) -> None:
    """Print the version.

    \b
    Example:
      clusterctl version --json
    """
    document = {"version": __version__, "python": platform.python_version(), "executable": sys.executable}
    call.show(document, lambda d: f"clusterctl {d['version']} (Python {d['python']}, {d['executable']})")


@verb
def completion(
    call: Call,
    shell: Annotated[
        str, typer.Argument(metavar="[bash|zsh|fish]", help="Which shell [default: $SHELL].", show_default=False)
    ] = "",
) -> None:
    """Print what makes a shell complete verbs, options, and names of clusters, jobs, nodes and services.

    \b
    Examples:
      eval "$(clusterctl completion bash)"     in ~/.bashrc; zsh: the same in ~/.zshrc
      clusterctl completion fish > ~/.config/fish/completions/clusterctl.fish
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise UsageError(f"no completion for the shell {chosen!r}: there is {', '.join(SHELLS)}")
    text = script(chosen)
    if call.json:
        output.write_json({"shell": chosen, "script": text})
    else:
        output.write(text + "\n")
