"""What reviews of any cloud have in common (`base.HasReview`): looking something up, and saying so where it is not there.

AWS           has none
Google Cloud  project, region, network, machine types by zone, images, accounts
Azure         subscription, region, group, network, the way through a Bastion, sizes, images, identities, locks
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.base import Objection, PoolRequest
from clusterctl_providers.catalog import instance_types, offers_for


def tried(key: str, look: Callable[[], Any]) -> Objection | None:
    """Of a setting of the provider: None where `look` finds what it names."""
    try:
        look()
    except BadRequest as error:
        return Objection("", key, "", str(error))
    return None


def nearest(name: str, known: set[str], provider: str) -> str:
    """What to write instead of an instance type that is not there."""
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return (
        f"did you mean {near[0]!r}?"
        if near
        else f"`clusterctl offers --provider {provider}` lists those that are known"
    )


def image_kinds(provider: str, region: str, pool: PoolRequest) -> list[tuple[str, bool]]:
    """(architecture, whether it has NVIDIA's GPUs) of the types that the pool may get: an image is made for one architecture."""
    offers = offers_for(provider, region, [], {**pool.spec, "name": pool.name})
    machines = {machine.name: machine for machine in instance_types(provider)}
    kinds = {(machines[o.instance_type].arch, machines[o.instance_type].gpu_vendor == "nvidia") for o in offers}
    return sorted(kinds or {("x86_64", False)})
