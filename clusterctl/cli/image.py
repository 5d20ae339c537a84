"""`clusterctl image build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.reading import read_spec
from clusterctl.client.registry import Registry
from clusterctl.core.errors import UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_SPEC = """\
cluster: image
provider: {{{provider}: {{region: {region}}}}}
pools:
  - {{name: nodes}}
"""


@app.callback()
def main() -> None:
    """Make machine images of which nodes start faster.

    \b
    Example:
      clusterctl image build cluster.yaml
    """


@app.command("build")
@verb
def build(
    call: Call,
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="The cluster's file.", show_default=False)] = None,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Whose image is the base [default: the first].", show_default=False)
    ] = "",
    provider: Annotated[str, typer.Option(metavar="NAME", help="Without SPEC: the cloud.", show_default=False)] = "",
    region: Annotated[str, typer.Option(metavar="NAME", help="Without SPEC: where.", show_default=False)] = "",
) -> None:
    """Make a machine image with the Python and the Ray that nodes would otherwise install.

    \b
    Example:
      clusterctl image build cluster.yaml --pool gpu
    """
    from clusterctl.client.imaging import build_image

    document = build_image(Registry(), _spec(spec, provider, region), pool, call.say)
    call.show(document, render)


def _spec(path: Path | None, provider: str, region: str) -> Any:
    if path is not None:
        if provider or region:
            raise UsageError("--provider and --region are for a build without SPEC: the spec names them")
        return read_spec(path).spec
    if not provider or not region:
        raise UsageError(
            "name a SPEC, or --provider and --region: clusterctl image build --provider aws --region us-east-1"
        )
    from clusterctl.spec.load import parse_spec

    return parse_spec(_SPEC.format(provider=provider, region=region))


def render(document: dict[str, Any]) -> str:
    how = f"made in {document['seconds']:.0f} s" if document["fresh"] else "was there already"
    return f"{document['image']}  ({document['name']}, {how}; write `image: {document['image']}` into the pool and the head)"
