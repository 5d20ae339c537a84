"""`clusterctl offers` and `clusterctl cost`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.text import amounts, columns, money
from clusterctl.client.registry import Registry
from clusterctl.core.errors import UsageError

SHOWN = 40  # of all the types of all clouds, for people who did not say which


@verb
def offers(
    call: Call,
    gpu: Annotated[
        str, typer.Option(metavar="NAME[:N]", help="Only with this GPU model, at least N of it.", show_default=False)
    ] = "",
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="From the catalogue that ships, and no cluster; one that it lacks lists its clouds.",
            show_default=False,
        ),
    ] = "",
    region: Annotated[str, typer.Option(metavar="NAME", help="With --provider: only there.", show_default=False)] = "",
) -> None:
    """List instance types with $/h, source and date of the price.

    Of a cluster: what its pools may get. Where no cluster is known, or with --provider: what the catalogue has.

    \b
    Example:
      clusterctl offers --provider aws --gpu L4:1
    """
    if provider or region or not _has_cluster(call):
        _show_catalogue(call, gpu, provider, region)
        return
    name, count = parse_gpu(gpu) if gpu else ("", 0.0)
    with call.api() as api:
        document = api.get("/api/v1/offers")
    fitting = [offer for offer in document["offers"] if _fits(offer, name, count)]
    call.show(document | {"offers": sorted(fitting, key=lambda o: (o["price_per_hour"], o["offer"]))}, render_offers)


def _has_cluster(call: Call) -> bool:
    """Whether one is named, or the only one that is known."""
    registry = Registry()
    named = call.cluster_name or registry.environment.get("CLUSTERCTL_CLUSTER")
    return bool(named) or len(registry.names()) == 1


def _show_catalogue(call: Call, gpu: str, provider: str, region: str) -> None:
    """Facts that ship with this version, each with its source and date; what a cluster would get may differ."""
    from clusterctl_providers.catalog.listing import list_offers

    from clusterctl.cli.render.offers import render_offers as render_listing

    try:
        filtered = gpu or provider or region or call.json
        document = list_offers(gpu, provider, region, None if filtered else SHOWN)
    except ValueError as error:
        raise UsageError(str(error)) from None
    call.show(document, render_listing)


def parse_gpu(text: str) -> tuple[str, float]:
    """(name, count) of NAME or NAME:COUNT; the count is 1 where none is written. Raises UsageError."""
    name, _, count = text.partition(":")
    try:
        return name, float(count or 1)
    except ValueError:
        raise UsageError(f"--gpu {text!r}: write NAME or NAME:COUNT, as in L4:2") from None


def _fits(offer: dict[str, Any], name: str, count: float) -> bool:
    if not name:
        return True
    return str(offer.get("gpu_type", "")).lower() == name.lower() and offer["resources"].get("GPU", 0) >= count


def render_offers(document: dict[str, Any]) -> str:
    """The document of `offers` for a cluster; what kept some of them from being listed comes last."""
    rows = [
        [
            offer["pool"],
            offer["instance_type"],
            offer["market"],
            offer["zone"],
            money(offer["price_per_hour"]),
            amounts(offer["resources"]),
            offer.get("gpu_type") or "",
            " ".join(filter(None, [offer.get("price_source"), offer.get("price_date")])),
            (offer.get("blocked") or {}).get("text", ""),
        ]
        for offer in document["offers"]
    ]
    header = ["pool", "type", "market", "zone", "$/h", "resources", "gpu", "price from", "blocked"]
    text = columns(header, rows, right=(4,)) if rows else "no offers"
    return text + (f"\n{document['error']}" if document.get("error") else "")


@verb
def cost(
    call: Call,
    by: Annotated[str, typer.Option(metavar="KIND", help="pool, day, user or job.")] = "pool",
    history: OfHistory = "",
) -> None:
    """Show what the cluster has cost.

    A job pays for the largest part of any resource of its node that it holds; what no job held is shown beside.

    \b
    Example:
      clusterctl cost --by day
    """
    if by not in ("pool", "day", "user", "job"):
        raise UsageError(f"--by {by!r}: write pool, day, user or job")
    with call.api(history) as api:
        document = api.get("/api/v1/cost", by=by)
    call.show(document if by in ("user", "job") else summed(document, by), render_cost)


def summed(document: dict[str, Any], by: str) -> dict[str, Any]:
    """The ledger's rows (one per day and pool) summed by `by`: {"by", "rows": [{by, "hours", "dollars"}], "total"}."""
    sums: dict[str, tuple[float, float]] = {}
    for row in document["rows"]:
        hours, dollars = sums.get(str(row[by]), (0.0, 0.0))
        sums[str(row[by])] = (hours + row["hours"], dollars + row["dollars"])
    rows = [{by: key, "hours": round(h, 4), "dollars": round(d, 6)} for key, (h, d) in sorted(sums.items())]
    return {"by": by, "rows": rows, "total": round(sum(row["dollars"] for row in rows), 6)}


def render_cost(document: dict[str, Any]) -> str:
    """Node hours and dollars in each row; with what no job held, where the document tells."""
    by = document["by"]
    named = any(row.get("name") for row in document["rows"])  # jobs are: the name comes last, where it may be folded
    rows = [
        [str(row[by]), f"{row['hours']:.2f}", money(row["dollars"]), str(row.get("name") or "")]
        for row in document["rows"]
    ]
    if "unused" in document:
        rows.append(["no job", "", money(document["unused"]), ""])
    rows.append(["total", "", money(document["total"]), ""])
    titles = [by, "node hours", "cost", "name"]
    return columns(titles if named else titles[:3], rows if named else [row[:3] for row in rows], right=(1, 2))
