"""`clusterctl init` and `clusterctl validate`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.client.specfile import read_places
from clusterctl.core.errors import UsageError
from clusterctl.spec.document import MAX_BYTES
from clusterctl.spec.init import STARTERS, cluster_name, write_new, write_starter
from clusterctl.spec.providers.registry import A_PLACE, KINDS

if TYPE_CHECKING:
    from clusterctl.spec.faults import Fault
    from clusterctl.spec.load import PlacedSpec

UP_REFUSES = " (`up` would refuse it)"


@verb
def init(
    call: Call,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write.", show_default=False)] = Path(),
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            "-p",
            metavar="P",
            help=f"{', '.join(KINDS)}, or a starter like {next(name for name in STARTERS if name not in KINDS)}; with --from "
            f"where machines come from, as in {next(iter(KINDS))} or {A_PLACE} [default: {next(iter(KINDS))}, or as in FILE].",
            show_default=False,
        ),
    ] = "",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Of KubeRay (a RayCluster, RayJob or RayService), `ray up` or SkyPilot: write a spec like it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a starter cluster.yaml and a job.py that runs on it.

    With --from what another program's file comes to, and line by line what of it is not in the spec. Overwrites nothing.

    \b
    Examples:
      clusterctl init --provider local
      clusterctl init --from raycluster.yaml --provider local
    """
    if source is not None:
        _init_from(call, source, directory, provider)
        return
    provider = provider or next(iter(KINDS))
    written = write_starter(provider, directory)
    call.show({"provider": provider, "written": [str(path) for path in written]}, _render_written)


def _init_from(call: Call, source: Path, directory: Path, provider: str) -> None:
    from clusterctl.importing.given import read_given
    from clusterctl.importing.paths import Moved
    from clusterctl.importing.read import convert

    moved = Moved(str(source.absolute().parent), str(directory.absolute()))
    found = convert(_text_of(source), str(source), moved, read_given(provider), cluster_name(directory), known_names)
    written = write_new(found.texts, directory)
    for note in found.notes:
        call.say(str(note))
    document = {
        "from": str(source),
        "kind": found.kind,
        "written": [str(path) for path in written],
        "notes": [_place(note) for note in found.notes],
        "commands": list(found.commands),
    }
    call.show(document, _render_written)


def known_names(one: PlacedSpec) -> tuple[Fault, ...]:
    """What of a spec's names is not known here. Raises SpecError with those that its cloud does not have."""
    from clusterctl.client.specfile import SpecFile
    from clusterctl.client.up.review import check_names

    return check_names(SpecFile(Path(one.located.name), one.text, one.spec, one.located, one.place))


def _text_of(path: Path) -> str:
    """Of a file of whatever kind. Raises UsageError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: byte 0x{error.object[error.start]:02x} is not UTF-8") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _render_written(document: dict[str, Any]) -> str:
    spec = next((path for path in document["written"] if path.endswith(".yaml")), "cluster.yaml")
    verb = "plan" if "from" in document else "up"
    return f"wrote {' and '.join(document['written'])}; next: clusterctl {verb} {spec}"


@verb
def validate(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The file to check.")] = Path("cluster.yaml"),
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema for editors instead.")] = False,
) -> int:
    """Check a spec: every fault with its line and column.

    \b
    Examples:
      clusterctl validate cluster.yaml
      clusterctl validate --schema > cluster.schema.json
    """
    if schema:
        from clusterctl.spec.schema import json_schema

        output.write(json.dumps(json_schema(), indent=2) + "\n")
        return 0
    document = check(spec)
    if call.json:
        output.write_json(document)
    else:
        for fault in document["faults"]:
            output.say(fault["text"])
        for warning in document["warnings"]:
            output.say(f"warning: {warning['text']}")
        if document["valid"]:
            where = f", which may be in {', '.join(document['places'])}" if len(document["places"]) > 1 else ""
            output.write_line(f"{spec} is a valid spec of cluster {document['cluster']}{where}")
    return 0 if document["valid"] else 2


def check(path: Path) -> dict[str, Any]:
    """{"valid", "cluster", "places", "faults", "warnings"}: warnings are parts that this version cannot carry out."""
    from clusterctl.client.up.review import check_names
    from clusterctl.spec.faults import SpecError
    from clusterctl.spec.lifetime import check_to_come
    from clusterctl.spec.support import unsupported

    try:
        files = read_places(path)
        for one in files.each:
            check_to_come(one.spec, one.located, time.time())
        unknown = dict.fromkeys(fault for one in files.each for fault in check_names(one))
    except SpecError as error:
        faults = [_place(fault) for fault in error.faults]
        return {"valid": False, "cluster": "", "places": [], "faults": faults, "warnings": []}
    lacking = dict.fromkeys(fault for one in files.each for fault in unsupported(one.spec, one.located))
    return {
        "valid": True,
        "cluster": files.name,
        "places": [one.place for one in files.each],
        "faults": [],
        "warnings": [*(_place(fault, UP_REFUSES) for fault in lacking), *map(_place, unknown)],
    }


def _place(fault: Any, besides: str = "") -> dict[str, Any]:
    return {
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "message": fault.message,
        "suggestion": fault.suggestion,
        "text": f"{fault}{besides}",
    }
