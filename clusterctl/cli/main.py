"""The command `clusterctl`. A verb's module is imported when the verb is used: `--help` imports none of them."""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from clusterctl.cli.call import AsJson, ClusterName, Quiet, Verbose
from clusterctl.cli.completing import VARIABLE, is_asked
from clusterctl.core.errors import ClusterctlError
from clusterctl.version import __version__


@dataclass(frozen=True)
class Verb:
    """Where a verb lives and its line in the overview (the first line of its own help: a test compares them)."""

    module: str
    name: str
    line: str


SECTIONS: dict[str, dict[str, Verb]] = {
    "Clusters": {
        "init": Verb(
            "clusterctl.cli.verbs.spec_files", "init", "Write a starter cluster.yaml and a job.py that runs on it."
        ),
        "validate": Verb(
            "clusterctl.cli.verbs.spec_files", "validate", "Check a spec: every fault with its line and column."
        ),
        "plan": Verb(
            "clusterctl.cli.verbs.plan", "plan", "Show what `up` would change, and what it costs before and after."
        ),
        "up": Verb("clusterctl.cli.verbs.up", "up", "Make the cluster be as the spec says; again does no harm."),
        "down": Verb("clusterctl.cli.verbs.down", "down", "End every node of a cluster and forget it."),
        "list": Verb("clusterctl.cli.verbs.known", "list_clusters", "List the clusters known here."),
        "status": Verb("clusterctl.cli.verbs.status", "status", "Show head, nodes, pools, demand, jobs and cost."),
        "export": Verb("clusterctl.cli.verbs.export", "app", "Write a spec in the words of KubeRay."),
        "dashboard": Verb(
            "clusterctl.cli.verbs.dashboard", "dashboard", "Open the cluster's web page through a local port."
        ),
        "monitoring": Verb(
            "clusterctl.cli.verbs.monitoring",
            "app",
            "Watch a cluster with Prometheus and Grafana.",
        ),
        "env": Verb(
            "clusterctl.cli.verbs.env", "app", "Set what Ray's own tools need to speak to the cluster, from here."
        ),
    },
    "Jobs": {
        "run": Verb("clusterctl.cli.verbs.run", "app", "Run one job on a cluster of its own, and take that down."),
        "submit": Verb("clusterctl.cli.verbs.submit", "app", "Run a Python file or a command on the cluster."),
        "jobs": Verb("clusterctl.cli.verbs.jobs", "jobs", "List jobs, newest first."),
        "job": Verb("clusterctl.cli.verbs.jobs", "app", "Show, cancel or retry jobs."),
        "logs": Verb("clusterctl.cli.verbs.logs", "logs", "Print what jobs wrote, or the setup of a node."),
        "explain": Verb("clusterctl.cli.verbs.explain", "explain", "Say why a job waits, or why a node is as it is."),
    },
    "Services": {
        "service": Verb(
            "clusterctl.cli.verbs.service", "app", "Keep programs running behind one address, and update them."
        ),
        "serve": Verb(
            "clusterctl.cli.verbs.serve",
            "app",
            "Serve applications with Ray Serve; new versions take over without a failed request.",
        ),
    },
    "Nodes": {
        "nodes": Verb("clusterctl.cli.verbs.nodes", "nodes", "List nodes, with the reason for each."),
        "node": Verb("clusterctl.cli.verbs.nodes", "app", "Show or drain one node, or call its drain off."),
        "ssh": Verb("clusterctl.cli.verbs.access", "ssh", "Open a shell on a node."),
        "dev": Verb("clusterctl.cli.verbs.dev", "dev", "Open a shell, Jupyter or VS Code on a node bought for it."),
        "exec": Verb("clusterctl.cli.verbs.access", "executing", "Run a command on nodes and show what each said."),
        "cp": Verb("clusterctl.cli.verbs.access", "cp", "Copy a file or a directory to or from a node."),
        "forward": Verb("clusterctl.cli.verbs.forward", "forward", "Make ports of a node ports of this machine."),
        "image": Verb("clusterctl.cli.verbs.image", "app", "Make images of which nodes start faster, and remove them."),
        "events": Verb("clusterctl.cli.verbs.events", "events", "Print the cluster's journal, with reasons."),
    },
    "Money": {
        "offers": Verb(
            "clusterctl.cli.verbs.money", "offers", "List instance types with $/h, source and date of the price."
        ),
        "cost": Verb("clusterctl.cli.verbs.money", "cost", "Show what the cluster has cost."),
        "simulate": Verb(
            "clusterctl.cli.verbs.simulate",
            "simulate",
            "Replay a trace of jobs through the autoscaler: waits, $ and use per policy.",
        ),
        "gc": Verb("clusterctl.cli.verbs.gc", "gc", "Find and remove what no cluster known here owns."),
    },
    "This machine": {
        "doctor": Verb(
            "clusterctl.cli.verbs.doctor",
            "doctor",
            "Check this machine, and what the clusters known here or a spec need, and say what to mend.",
        ),
        "completion": Verb(
            "clusterctl.cli.verbs.about",
            "completion",
            "Print what makes a shell complete verbs, options, and names of clusters, jobs, nodes and services.",
        ),
        "version": Verb("clusterctl.cli.verbs.about", "version", "Print the version."),
    },
}
VERBS = {name: verb for section in SECTIONS.values() for name, verb in section.items()}


class Verbs(TyperGroup):
    """A group that knows its verbs by name and imports one only to run it or to print its own help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help's sections."""
        return list(VERBS)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Verbs by their names alone: importing them all takes longer than a shell may wait."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=verb.line) for name, verb in VERBS.items() if name.startswith(incomplete)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports that verb's module; for a name that is none, fails with the nearest one."""
        verb = VERBS.get(cmd_name)
        if verb is not None:
            return load(cmd_name, verb)
        if is_asked():
            return None
        near = difflib.get_close_matches(cmd_name, VERBS, n=1)
        return ctx.fail(f"No such command {cmd_name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """By section, with the lines that are written here: no verb is imported."""
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, verb.line) for name, verb in verbs.items()])


def load(name: str, verb: Verb) -> Any:
    """The command of a verb: what its module has under `verb.name` is a function or a Typer of its own."""
    found = getattr(importlib.import_module(verb.module), verb.name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"clusterctl {__version__}")
        raise typer.Exit()


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    context: typer.Context,
    cluster_name: ClusterName = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and end."
    ),
) -> None:
    """One YAML file becomes a running cluster, with a durable queue and an autoscaler.

    \b
    clusterctl init --provider local     writes cluster.yaml and job.py
    clusterctl up cluster.yaml           starts it
    clusterctl submit job.py             runs work on it
    clusterctl down                      ends it, and leaves nothing
    """
    context.obj = {"cluster_name": cluster_name, "as_json": as_json, "quiet": quiet, "verbose": verbose}


def _home() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir or "/"
    except KeyError:
        return "/"


def run() -> NoReturn:
    """The whole command, to its end. Exit codes: see docs/cli.md."""
    # A user without a home, as containers have them, has the one that Docker gives: what must be kept then asks for a directory.
    os.environ.setdefault("HOME", _home())
    if is_asked():
        from typer.completion import completion_init  # pyright: ignore[reportPrivateImportUsage]

        completion_init()
    try:
        typer.main.get_command(app).main(prog_name="clusterctl", complete_var=VARIABLE)
    except ClusterctlError as error:
        from clusterctl.cli.output import say

        # A spec's faults already begin with file:line:column, as editors and people look for them.
        say(str(error) if hasattr(error, "faults") else f"clusterctl: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        from clusterctl.cli.failing import sentence
        from clusterctl.cli.output import say

        say(f"clusterctl: {sentence(error)}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _extra_with((error.name or "").partition(".")[0])
        if not extra:
            raise
        from clusterctl.cli.output import say

        say(f"clusterctl: this needs {error.name!r}, which is not installed: pip install 'clusterctl[{extra}]'")
        sys.exit(1)
    finally:
        gc.freeze()  # nothing is left to tidy up: Python's last searches for garbage cost as much as a tenth of `up`
    sys.exit(0)


def _extra_with(module: str) -> str:
    """The extra of ours that brings this top-level module, "" where none does."""
    from clusterctl.spec.providers.registry import KINDS

    libraries = (kind.library for kind in KINDS.values() if kind.library is not None)
    found = next((library.extra for library in libraries if module in library.modules), "")
    return "simulate" if module == "plotly" else found
