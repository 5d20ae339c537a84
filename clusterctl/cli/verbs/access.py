"""`clusterctl ssh`, `exec` and `cp`: getting to the nodes themselves."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Optional, TextIO

import typer

from clusterctl.cli import completing, output
from clusterctl.cli.behind_dashes import BehindDashes
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.escape import escaped
from clusterctl.client.nodes.access import access, nodes_of, shell_code
from clusterctl.client.nodes.command_result import CommandResult
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError, NotFound, UsageError

AT_ONCE = 64
executing = typer.Typer(rich_markup_mode=None, add_completion=False)


@verb
def ssh(
    call: Call,
    node: Annotated[
        str,
        typer.Argument(
            metavar="[NODE]",
            help="Which node [default: the head's].",
            show_default=False,
            autocompletion=completing.nodes,
        ),
    ] = "",
) -> int:
    """Open a shell on a node.

    \b
    Example:
      clusterctl ssh gpu-3
    """
    cluster = call.cluster()
    chosen = nodes_of(cluster, [node]) if node else nodes_of(cluster, pool="head")
    if not chosen:
        raise NotFound("this cluster has no head node at this moment: name a node, as `clusterctl nodes` lists them")
    argv = access(cluster, chosen[0]).shell_argv()
    try:
        return shell_code(subprocess.run(argv).returncode)
    except OSError as error:
        raise ClusterctlError(
            f"{argv[0]}, which opens the shell on {chosen[0]['id']}, cannot be run here ({error.strerror}): install it"
        ) from error


@executing.command(cls=BehindDashes, name="exec")
@verb
def execute(
    call: Call,
    nodes: Annotated[
        Optional[list[str]],  # noqa: UP045  typer reads it at run time, on Python 3.10 too
        typer.Argument(metavar="[NODE...] -- CMD...", help="Nodes, then a command.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="On every node.")] = False,
) -> int:
    """Run a command on nodes and show what each said.

    Ends with the first exit code that is not 0.

    \b
    Example:
      clusterctl exec gpu-1 gpu-2 -- nvidia-smi -L
    """
    assert call.context is not None
    command: list[str] = call.context.meta["clusterctl.command"]
    if not command:
        raise UsageError("write the command after --: clusterctl exec NODE -- CMD")
    if not nodes and not every:
        raise UsageError("name the nodes, or say --all: clusterctl exec --all -- CMD")
    cluster = call.cluster()
    chosen = nodes_of(cluster, nodes or [])
    with ThreadPoolExecutor(min(AT_ONCE, max(1, len(chosen)))) as pool:
        done = list(pool.map(lambda node: run_on(cluster, node, command, alone=len(chosen) == 1), chosen))
    if call.json:
        output.write_json({"nodes": [ran.document() for ran in done]})
    elif len(done) == 1:
        output.write_bytes(_shown(done[0].stdout, sys.stdout))
        output.write_bytes(_shown(done[0].stderr, sys.stderr), sys.stderr)
    else:
        output.write_bytes(_shown(_by_node(done), sys.stdout))
    return next((ran.code for ran in done if ran.code), 0)


def run_on(cluster: Cluster, node: dict[str, Any], command: list[str], *, alone: bool) -> CommandResult:
    """A node of several that cannot be got at is an answer among others, with what is wrong: they are all shown."""
    try:
        return access(cluster, node).run(command)
    except ClusterctlError as error:
        if alone:
            raise
        return CommandResult(str(node["id"]), error.exit_code, b"", f"{error}\n".encode(errors="backslashreplace"))


def _by_node(done: list[CommandResult]) -> bytes:
    """What several nodes said, each line with its node."""
    lines: list[bytes] = []
    for ran in done:
        for said in (ran.stdout, ran.stderr):
            lines += [f"{ran.node}: ".encode() + line for line in said.removesuffix(b"\n").split(b"\n") if said]
        if ran.code:
            lines.append(f"{ran.node}: ended with {ran.code}".encode())
    return b"".join(line + b"\n" for line in lines)


def _shown(data: bytes, stream: TextIO) -> bytes:
    """As it is into a file or pipe, harmless on a terminal."""
    return escaped(data.decode(errors="backslashreplace")).encode() if stream.isatty() else data


@verb
def cp(
    call: Call,
    source: Annotated[str, typer.Argument(metavar="SRC", help="A path here, or NODE:PATH.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A path here, or NODE:PATH.")],
) -> None:
    """Copy a file or a directory to or from a node.

    \b
    Example:
      clusterctl cp gpu-1:/data/out.csv .
    """
    from_node, from_path = _place(source)
    to_node, to_path = _place(target)
    if bool(from_node) == bool(to_node):
        raise UsageError("one of the two is on a node, as NODE:PATH, and the other is here")
    cluster = call.cluster()
    node = nodes_of(cluster, [from_node or to_node])[0]
    way: Any = access(cluster, node)
    if to_node:
        way.put(Path(from_path), to_path or ".")
    else:
        way.get(from_path, Path(to_path))
    call.show({"from": source, "to": target}, lambda document: f"{document['from']} is at {document['to']}")


def _place(text: str) -> tuple[str, str]:
    """("", path) for a path here, (node, path) for one on a node: as with scp, a slash before the colon makes it a path."""
    node, colon, path = text.partition(":")
    return (node, path) if colon and "/" not in node and node else ("", text)
