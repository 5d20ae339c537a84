"""`clusterctl image build|dockerfile|list|rm`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.text import columns
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import read_spec
from clusterctl.core.errors import ClusterctlError, UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_SPEC = """\
cluster: image
provider: {{{provider}: {{region: {region}}}}}
pools:
  - {{name: nodes}}
"""

Cloud = Annotated[str, typer.Option(metavar="NAME", help="Without SPEC: the cloud.", show_default=False)]
OfPlaces = Annotated[
    str,
    typer.Option("--place", metavar="CLOUD[/REGION]", help="Which of the places that SPEC lists.", show_default=False),
]
Region = Annotated[str, typer.Option(metavar="NAME", help="Without SPEC: where.", show_default=False)]


@app.callback()
def main() -> None:
    """Make images of which nodes start faster, and remove them.

    \b
    Examples:
      clusterctl image build cluster.yaml
      clusterctl image list cluster.yaml
    """


@app.command("build")
@verb
def build(
    call: Call,
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="The cluster's file.", show_default=False)] = None,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Whose image is the base [default: the first].", show_default=False)
    ] = "",
    place: OfPlaces = "",
    provider: Cloud = "",
    region: Region = "",
) -> None:
    """Make a machine image with the Python and the Ray that nodes would otherwise install.

    \b
    Example:
      clusterctl image build cluster.yaml --pool gpu
    """
    from clusterctl.client.images.build import build_image

    document = build_image(Registry(), _spec(spec, place, provider, region), pool, call.say)
    call.show(document, render)


@app.command("dockerfile")
@verb
def dockerfile(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.", show_default=False)],
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Whose image it makes [default: the first].", show_default=False)
    ] = "",
    base: Annotated[str, typer.Option("--from", metavar="IMAGE", help="Start from this one.", show_default=False)] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there instead of showing it.", show_default=False)
    ] = None,
    place: OfPlaces = "",
) -> None:
    """Write the Dockerfile of a container image with what nodes would otherwise install: Ray, and what `setup` does.

    \b
    Example:
      clusterctl image dockerfile cluster.yaml | docker build -t vision -
    """
    from clusterctl.client.images.dockerfile import dockerfile as made

    document = asdict(made(read_spec(spec, place).spec, pool, base))
    if out is None:
        call.show(document, lambda d: str(d["text"]).rstrip("\n"))
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(document["text"])
    except FileExistsError:
        raise UsageError(f"{out} is there already: name another file, or remove it") from None
    except OSError as error:
        raise ClusterctlError(f"{out} cannot be written: {error.strerror}") from error
    call.show(document | {"file": str(out)}, lambda d: f"{d['file']}: {d['base']} with {_content(d)}")


@app.command("list")
@verb
def list_(
    call: Call,
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC", help="Names the cloud and where.", show_default=False)
    ] = None,
    place: OfPlaces = "",
    provider: Cloud = "",
    region: Region = "",
) -> None:
    """List the images that builds have made there, whoever ran them, and which clusters known here start from them.

    \b
    Example:
      clusterctl image list --provider aws --region us-east-1
    """
    from clusterctl.client.images.made import list_images

    call.show(list_images(Registry(), _spec(spec, place, provider, region)), render_list)


@app.command("rm")
@verb
def remove(
    call: Call,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="By id or name.", show_default=False)],
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC", help="Names the cloud and where.", show_default=False)
    ] = None,
    place: OfPlaces = "",
    provider: Cloud = "",
    region: Region = "",
) -> None:
    """Remove images with their snapshots. One that a cluster known here starts from is refused.

    \b
    Example:
      clusterctl image rm ami-0123456789abcdef0 --spec cluster.yaml
    """
    from clusterctl.client.images.made import remove_images

    document = remove_images(Registry(), _spec(spec, place, provider, region), images, call.say)
    call.show(document, render_removed)


def _spec(path: Path | None, place: str, provider: str, region: str) -> Any:
    if path is not None:
        if provider or region:
            raise UsageError("--provider and --region are for use without SPEC: the spec names them")
        return read_spec(path, place).spec
    from clusterctl.spec.load import parse_spec
    from clusterctl.spec.providers.registry import KINDS

    if not provider or not region:
        cloud = next(kind for kind in KINDS.values() if kind.works and kind.cloud is not None)
        example = f"--provider {cloud.name} --region {cloud.example[cloud.name]['region']}"
        raise UsageError(f"name a SPEC, or --provider and --region, as in `{example}`")
    return parse_spec(_SPEC.format(provider=provider, region=region))


def _content(document: dict[str, Any]) -> str:
    count = len(document["setup"])
    parts = [*document["requirements"], *([f"{count} setup command{'' if count == 1 else 's'}"] if count else [])]
    return " and ".join(parts)


def render(document: dict[str, Any]) -> str:
    how = f"made in {document['seconds']:.0f} s" if document["fresh"] else "was there already"
    return f"{document['image']}  ({document['name']}, {how}; write `image: {document['image']}` into the pool and the head)"


def render_list(document: dict[str, Any]) -> str:
    """The document of `image list`; sizes in GiB, days in UTC."""
    rows = [
        [
            image["image"] or "-",
            image["name"],
            image["arch"] or "-",
            f"{image['size'] / 2**30:.3g} GiB",
            "only snapshots are left" if image["state"] == "gone" else image["state"],
            datetime.fromtimestamp(image["created"], timezone.utc).strftime("%Y-%m-%d"),
            ", ".join(image["used_by"]) or "-",
        ]
        for image in document["images"]
    ]
    if not rows:
        return "no images of clusterctl there"
    return columns(["image", "name", "arch", "disk", "state", "made", "used by"], rows, right=(3,))


def render_removed(document: dict[str, Any]) -> str:
    count = len(document["removed"])
    return f"{count} image{'' if count == 1 else 's'} removed"
