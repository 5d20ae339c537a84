"""The catalogue files: the ones that ship, and newer prices that a refresh left in the user's own directory."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from clusterctl_runtime.files.private import write_private

from clusterctl_providers.catalog.facts import BadRow, InstanceType, Price, price_fault, read_instances, read_prices

PRICE_COLUMNS = (
    "provider",
    "region",
    "instance_type",
    "on_demand_usd_per_hour",
    "spot_usd_per_hour",
    "source",
    "as_of",
)

Fetch = Callable[[str], Iterable[Price]]


@dataclass(frozen=True)
class Catalog:
    """Machine types by (provider, name), prices by (provider, region) then name, and why prices were refused."""

    instances: dict[tuple[str, str], InstanceType]
    prices: dict[tuple[str, str], dict[str, Price]]
    refused: tuple[str, ...] = ()

    def regions(self, provider: str) -> list[str]:
        """Those of the provider that have prices, in alphabetical order."""
        return sorted(region for name, region in self.prices if name == provider)


@dataclass(frozen=True)
class Refresh:
    """What a refresh did: how many prices it took, the file they are in, and why others were refused."""

    provider: str
    accepted: int
    path: Path
    refused: tuple[str, ...] = field(default=())


def user_directory() -> Path:
    """Where refreshed prices live: `$CLUSTERCTL_HOME/catalog`, default `~/.clusterctl/catalog`."""
    return Path(os.environ.get("CLUSTERCTL_HOME") or Path.home() / ".clusterctl") / "catalog"


def load(directory: Path | None = None) -> Catalog:
    """The shipped catalogue, with the prices found in `directory` (default: the user's) laid over it."""
    directory = user_directory() if directory is None else directory
    newer = (
        tuple((path, path.stat().st_mtime_ns) for path in sorted(directory.glob("*.csv"))) if directory.is_dir() else ()
    )
    return _load(newer)


@lru_cache(maxsize=1)
def machine_types() -> dict[tuple[str, str], InstanceType]:
    """The types of the shipped catalogue by (provider, name), without their prices, which are ten times as many."""
    shipped = resources.files("clusterctl_providers.catalog")
    return {(m.provider, m.name): m for m in read_instances(_gzip_rows((shipped / "instances.csv.gz").read_bytes()))}


@lru_cache(maxsize=4)
def _load(newer: tuple[tuple[Path, int], ...]) -> Catalog:
    shipped = resources.files("clusterctl_providers.catalog")
    catalog = Catalog(machine_types(), {}, ())
    refused = add_prices(catalog, read_prices(_gzip_rows((shipped / "prices.csv.gz").read_bytes())))
    for path, _ in newer:
        with path.open(newline="", encoding="utf-8") as file:
            try:
                refused += add_prices(catalog, read_prices(csv.DictReader(file)))
            except BadRow as error:
                refused.append(f"{path}: {error}; the rest of the file was left out")
    return Catalog(catalog.instances, catalog.prices, tuple(refused))


def add_prices(catalog: Catalog, prices: Iterable[Price]) -> list[str]:
    """Lays believed prices over the catalogue's and returns the sentences of the refused ones."""
    refused: list[str] = []
    for price in prices:
        fault = price_fault(price, catalog.instances.get((price.provider, price.instance_type)))
        if fault:
            refused.append(fault)
        else:
            catalog.prices.setdefault((price.provider, price.region), {})[price.instance_type] = price
    return refused


def refresh(provider: str, fetch: Fetch, directory: Path | None = None) -> Refresh:
    """Asks `fetch(provider)` for prices and keeps the believed ones in `directory` for later, offline runs.

    Nothing is written, and the older prices stay, when the fetcher brings no believable price at all.
    """
    directory = user_directory() if directory is None else directory
    known = load(directory)
    scratch = Catalog(known.instances, {}, ())
    foreign: list[str] = []
    own: list[Price] = []
    for price in fetch(provider):
        if price.provider == provider:
            own.append(price)
        else:
            foreign.append(
                f"{price.provider} {price.instance_type}: the fetcher of {provider} brought another provider's price"
            )
    refused = foreign + add_prices(scratch, own)
    accepted = [p for _, by_type in sorted(scratch.prices.items()) for _, p in sorted(by_type.items())]
    path = directory / f"{provider}.csv"
    if accepted:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, prices_csv(accepted))
    return Refresh(provider, len(accepted), path, tuple(refused))


def prices_csv(prices: Iterable[Price]) -> bytes:
    """Prices in the catalogue's file format."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PRICE_COLUMNS)
    for p in prices:
        spot = "" if p.spot is None else repr(p.spot)
        writer.writerow((p.provider, p.region, p.instance_type, repr(p.on_demand), spot, p.source, p.as_of))
    return text.getvalue().encode()


def _gzip_rows(data: bytes) -> csv.DictReader[str]:
    return csv.DictReader(io.StringIO(gzip.decompress(data).decode(), newline=""))
