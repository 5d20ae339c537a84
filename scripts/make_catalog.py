"""Makes the catalogue's data files from a directory with instances.csv and prices.csv.

    python scripts/make_catalog.py DIRECTORY

Writes instances.csv.gz and prices.csv.gz into providers/clusterctl_providers/catalog/. The same input gives the same
bytes. Prices that are not believed (zero, negative, absurd, of an unknown type) are printed and left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from clusterctl_providers.catalog.facts import InstanceType, read_instances, read_prices
from clusterctl_providers.catalog.store import Catalog, add_prices, prices_csv

TARGET = Path(__file__).resolve().parent.parent / "providers" / "clusterctl_providers" / "catalog"
INSTANCE_COLUMNS = (
    "provider",
    "instance_type",
    "arch",
    "vcpus",
    "memory_gib",
    "gpu_vendor",
    "gpu_name",
    "gpu_count",
    "gpu_memory_gib",
    "source",
    "as_of",
)


def main(directory: Path) -> int:
    with (directory / "instances.csv").open(newline="", encoding="utf-8") as file:
        instances = {(m.provider, m.name): m for m in read_instances(csv.DictReader(file))}
    catalog = Catalog(instances, {})
    with (directory / "prices.csv").open(newline="", encoding="utf-8") as file:
        refused = add_prices(catalog, read_prices(csv.DictReader(file)))
    for sentence in refused:
        print(f"refused: {sentence}")
    prices = [price for _, by_type in sorted(catalog.prices.items()) for _, price in sorted(by_type.items())]
    write(TARGET / "instances.csv.gz", instances_csv(machine for _, machine in sorted(instances.items())))
    write(TARGET / "prices.csv.gz", prices_csv(prices))
    print(f"{len(instances)} instance types, {len(prices)} prices, {len(refused)} refused")
    return 0


def instances_csv(machines: Iterable[InstanceType]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INSTANCE_COLUMNS)
    for machine in machines:
        writer.writerow(f"{value:g}" if isinstance(value, float) else value for value in astuple(machine))
    return text.getvalue().encode()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
