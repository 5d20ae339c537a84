"""`clusterctl serve deploy|status|logs|rollback|delete`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.render.serve import render_deployed, render_logs, render_serve
from clusterctl.client.head.api import Api
from clusterctl.client.registry import Registry
from clusterctl.client.serve.config import Config, of_import_path, read_config
from clusterctl.client.serve.deploying import deploy as send
from clusterctl.client.serve.deploying import follow_deletion, follow_versions, version_of
from clusterctl.core.errors import ClusterctlError, UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The application.", show_default=False)]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return once the head has it; do not wait.")]
Timeout = Annotated[
    str,
    typer.Option(
        metavar="DURATION", help="Give the new version up if it is not ready then [default: 30m].", show_default=False
    ),
]


@app.callback()
def main() -> None:
    """Serve applications with Ray Serve; new versions take over without a failed request.

    \b
    Examples:
      clusterctl serve deploy app.yaml
      clusterctl serve status
    """


@app.command("deploy")
@verb
def deploy(
    call: Call,
    what: Annotated[
        str,
        typer.Argument(metavar="CONFIG|MODULE:APP", help="Serve's config file, or an application.", show_default=False),
    ],
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of the application [default: the file's, or the module's].", show_default=False
        ),
    ] = "",
    route_prefix: Annotated[
        str, typer.Option(metavar="PATH", help="With MODULE:APP: where it answers [default: /].", show_default=False)
    ] = "",
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What travels [default: CONFIG's or the current directory].", show_default=False
        ),
    ] = None,
    detach: Detach = False,
    timeout: Timeout = "",
) -> None:
    """Deploy applications. A new version gets the requests when it is healthy; if it does not become so, the old one stays.

    \b
    Examples:
      clusterctl serve deploy app.yaml
      clusterctl serve deploy main:app --name chat --route-prefix /chat
    """
    config = _config(what, name, route_prefix, working_dir)
    with call.api() as api:
        rows = send(api, config, duration("--timeout", timeout) if timeout else None, Registry().home, call.say)
        if not detach:
            rows = _follow(call, api, rows, config)
    call.show({"applications": rows}, lambda d: render_deployed(d["applications"]))


def _config(what: str, name: str, route: str, directory: Path | None) -> Config:
    if directory is not None and not directory.is_dir():
        raise UsageError(f"--working-dir: there is no directory {directory}")
    file = Path(what)
    if file.suffix in (".yaml", ".yml") or file.is_file():
        if route:
            raise UsageError("--route-prefix is for MODULE:APP: a file says `route_prefix` itself")
        return read_config(file, name, directory)
    return of_import_path(what, name or what.partition(":")[0].split(".")[0], route or "/", directory)


def _follow(call: Call, api: Api, rows: Sequence[dict[str, Any]], config: Config | None = None) -> list[dict[str, Any]]:
    """What the applications are like in the end. Raises ClusterctlError where a version does not run."""
    wanted = {row["name"]: row["newest"] for row in rows}
    changed = {row["name"]: row.get("changed", True) for row in rows}
    found = follow_versions(api, wanted, call.say)
    for row in found:
        version = version_of(row, wanted[row["name"]])
        if version.get("state") in ("failed", "dropped"):
            _fail(row, version, config)
    return [{**row, "changed": changed[row["name"]]} for row in found]


def _fail(row: dict[str, Any], version: dict[str, Any], config: Config | None) -> NoReturn:
    error = config.located(row["name"], version["faults"]) if config is not None else None
    if error is not None:
        raise error
    kept = f"version {row['live']} goes on" if row["live"] else "nothing answers there"
    what = "was given up" if version["state"] == "dropped" else "failed"
    raise ClusterctlError(f"version {version['version']} of {row['name']} {what}, {kept}: {version['detail']}")


@app.command("status")
@verb
def status(call: Call) -> None:
    """Show the applications with their versions, deployments and replicas.

    \b
    Example:
      clusterctl serve status --json
    """
    with call.api() as api:
        document = api.get("/api/v1/serve")
    call.show(document, lambda d: render_serve(d, time.time()))


@app.command("logs")
@verb
def logs(
    call: Call,
    name: Name,
    version: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of this version [default: the live one].", show_default=False),
    ] = None,
    deployment: Annotated[
        str, typer.Option(metavar="NAME", help="Only replicas of this deployment.", show_default=False)
    ] = "",
    tail: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="The last N lines of each replica.")] = 200,
) -> None:
    """Print what the replicas of an application wrote last, also of those that died lately.

    \b
    Example:
      clusterctl serve logs chat --tail 50
    """
    with call.api() as api:
        path = f"/api/v1/serve/applications/{name}/logs"
        document = api.get(path, version=version, deployment=deployment, lines=tail)
    call.show(document, render_logs)


@app.command("rollback")
@verb
def rollback(
    call: Call,
    name: Name,
    to: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="To this version [default: the one before].", show_default=False),
    ] = None,
    detach: Detach = False,
    timeout: Timeout = "",
) -> None:
    """Go back to the version before, in the same way as to a new one. One that is on its way is dropped instead.

    \b
    Example:
      clusterctl serve rollback chat
    """
    with call.api() as api:
        body: dict[str, Any] = {"to": to}
        if (seconds := duration("--timeout", timeout) if timeout else None) is not None:
            body["seconds"] = seconds
        row = api.post(f"/api/v1/serve/applications/{name}/rollback", body)
        rows = [row]
        if not detach and row["rolling"] is not None:
            rows = _follow(call, api, rows)
    call.show({"applications": rows}, lambda d: render_deployed(d["applications"]))


@app.command("delete")
@verb
def delete(
    call: Call,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="The applications.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them; Serve itself ends, too.")] = False,
    detach: Detach = False,
) -> None:
    """Delete applications, once the requests that they have are answered.

    \b
    Example:
      clusterctl serve delete chat
    """
    if bool(names) == all_:
        raise UsageError("name the applications, or --all")
    with call.api() as api:
        chosen = names or [row["name"] for row in api.get("/api/v1/serve")["applications"]]
        for name in chosen:
            api.delete(f"/api/v1/serve/applications/{name}")
        if not detach:
            follow_deletion(api, chosen)
    document = {"deleted": chosen, "done": not detach}
    call.show(document, lambda d: f"{'deleted' if d['done'] else 'deleting'}: {', '.join(d['deleted']) or 'nothing'}")
