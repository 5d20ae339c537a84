"""What every verb shares: `-c`, `--json`, `-q`, `-v`, and how the verb finds its cluster and shows its answer."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clusterctl.cli import completing, output
from clusterctl.client.meter import watched_by
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:  # an HTTP client that `--help` does without
    from clusterctl.client.head.api import Api

ClusterName = Annotated[
    str,
    typer.Option(
        "--cluster",
        "-c",
        metavar="NAME",
        show_default=False,
        autocompletion=completing.clusters,
        help="Which cluster [default: $CLUSTERCTL_CLUSTER, else the only one known].",
    ),
]
OfHistory = Annotated[
    str,
    typer.Option(
        "--history",
        metavar="NAME[@WHEN]",
        show_default=False,
        help="Of a cluster that is down: the last of that name, or as `clusterctl list --history` has it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON on stdout; streams in JSON lines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More on stderr; failures with their traceback.")]


@dataclass(frozen=True)
class Call:
    """One use of a verb, with the options that all verbs have."""

    cluster_name: str = ""
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    context: typer.Context | None = None

    def cluster(self) -> Cluster:
        """The one that the options, the environment or the registry name. Raises NotFound."""
        return Registry().resolve(self.cluster_name)

    def api(self, history: str = "") -> Api:
        """To be closed by a `with`; the head is looked for at the first call. `history`: of a cluster that is down, which answers
        from what was kept of it. Raises NotFound."""
        if not history:
            from clusterctl.client.head.api import Api

            return Api.of(self.cluster())
        from clusterctl.client.history.archive import History
        from clusterctl.client.history.past import PastApi

        kept = History(Registry().home)
        ended = kept.find(history)
        return PastApi(ended, kept.read(ended))

    def say(self, text: str) -> None:
        """On stderr; nothing with `--quiet`."""
        if not self.quiet:
            output.say(text)

    def detail(self, text: str) -> None:
        """On stderr, with `--verbose` only."""
        if self.verbose:
            output.say(text)

    def show(self, document: Any, render: Callable[[Any], str]) -> None:
        """The document itself, or what a person wants to see of it."""
        if self.json:
            output.write_json(document)
        else:
            output.write_line(render(document))


_SHARED = {
    "cluster_name": (ClusterName, ""),
    "as_json": (AsJson, False),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `function(call, ...)` the shared options. They may also stand before the verb; the nearer one wins."""
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, annotation=kind, default=default) for name, (kind, default) in _SHARED.items()
    ]
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    parameters = [p.replace(kind=keyword) for p in own] + [context, *shared]

    @functools.wraps(function)
    def wrapper(*, context: typer.Context, **given: Any) -> Any:
        from clusterctl.cli.render.meter import make_meter  # not for --help

        before: dict[str, Any] = context.obj if isinstance(context.obj, dict) else {}
        options = {name: given.pop(name) or before.get(name, default) for name, (_, default) in _SHARED.items()}
        call = Call(options["cluster_name"], options["as_json"], options["quiet"], options["verbose"], context)
        try:
            with watched_by(make_meter(call.quiet)):
                code = function(call, **given)
        except (ClusterctlError, OSError):
            if call.verbose:
                traceback.print_exc(file=sys.stderr)
            raise
        if code:
            raise typer.Exit(code)

    del wrapper.__wrapped__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper
