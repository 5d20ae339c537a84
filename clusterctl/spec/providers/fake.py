"""`provider: fake`: a cloud that is a file of this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clusterctl.spec.base import SpecModel
from clusterctl.spec.faults import Finding, refuse, shorten
from clusterctl.spec.fields import amounts_in, is_number
from clusterctl.spec.providers.clouds import CLOUDS
from clusterctl.spec.providers.kind import Kind, Search

_CLOUDS = [kind.cloud for kind in CLOUDS if kind.cloud is not None]
if TYPE_CHECKING:
    Catalogue = str
else:
    Catalogue = Literal[tuple(sorted(cloud.catalogue for cloud in _CLOUDS))]


_PRICES = ("price", "spot_price")


def _read_types(value: Any) -> Any:
    """Types as the fake cloud takes them: sizes are bytes, prices are numbers."""
    if not isinstance(value, dict):
        return value
    types: dict[Any, Any] = {}
    findings: list[Finding] = []
    for name, facts in value.items():
        if not isinstance(facts, dict):
            findings.append(Finding((name,), f"type {name!r} must be a mapping of amounts, not {shorten(facts)}"))
            continue
        other = {key: facts[key] for key in (*_PRICES, "gpu_type") if key in facts}
        amounts, wrong = amounts_in({key: amount for key, amount in facts.items() if key not in other})
        wrong += [
            Finding((key,), f"{key!r} is in $/h, 0 or more, and not {shorten(price)}")
            for key, price in other.items()
            if key in _PRICES and not (is_number(price) and price >= 0)
        ]
        findings += [replace(one, path=(name, *one.path)) for one in wrong]
        types[name] = {**amounts, **other}
    return refuse(findings) if findings else types


class FakeSettings(SpecModel):
    """A deterministic cloud that exists only on this machine's disk, to rehearse failures (docs/rehearsing.md)."""

    boot: Literal["none", "local"] = Field(
        default="none", description="`local`: its machines run real agents, as processes of this machine."
    )
    boot_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="How long a machine boots; default: 30, with `boot: local` 0."
    )
    cloud: Catalogue = Field(default=_CLOUDS[0].catalogue, description="Whose catalogue to use without `types`.")
    region: str = Field(default=_CLOUDS[0].region, description="Region of that catalogue.")
    zones: list[str] = Field(default=[], description="Zones; default: two of the region.")
    types: Annotated[dict[str, dict[str, float | str]], BeforeValidator(_read_types)] = Field(
        default={},
        description="Instance types: amounts of resources, `price` and `spot_price` in $/h, `gpu_type`.",
        examples=[{"small": {"CPU": 1, "price": 0.1}}],
    )
    faults: list[dict[str, Any]] = Field(
        default=[], description="The script of misfortunes.", examples=[[{"kind": "no_capacity", "times": 3}]]
    )
    linger: Annotated[float, Field(ge=0)] = Field(default=0, description="Seconds that ended machines stay in lists.")
    speed: Annotated[float, Field(gt=0)] = Field(default=1, description="Its clock runs so many times as fast.")
    directory: str = Field(default="", description="Where it lives; default: with the cluster.")


KIND = Kind(
    name="fake",
    title="a rehearsed cloud",
    settings=FakeSettings,
    works=True,
    machine="process",
    head="here",
    changes={
        **dict.fromkeys(("directory", "cloud", "region", "zones", "boot"), "refused"),
        **dict.fromkeys(("types", "faults", "boot_seconds", "linger", "speed"), "in-place"),
    },
    foreign=frozenset({"hosts", "host", "reservation"}),
    starters={"fake": "plain"},
    other_names=("mock", "simulated"),
    boot_seconds=30.0,
    search=Search(where=("directory",), looked="named", unset=False),
    imagined=True,
)
