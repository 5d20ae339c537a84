"""Whether a machine has what the spec says of its pools. Pure: facts in, a sentence out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from clusterctl_providers.catalog.gpu_names import is_model

from clusterctl.provision.ssh.inventory import Machine

if TYPE_CHECKING:
    from clusterctl.spec.pool import Pool

GIB = 1024**3


def misfit(machine: Machine, pools: Iterable[Pool], facts: Mapping[str, Any]) -> str:
    """What a pool promises of this machine that it does not have, with the fix; "" when all is there. What the machine's own
    entry says of it is believed: it is written where facts cannot be found out."""
    for pool in pools:
        if pool.name in machine.pools:
            wrong = [*_too_little(pool, machine, facts), *_other_gpu(pool, machine, facts)]
            if wrong:
                return (
                    f"{'; '.join(wrong)}: correct pool {pool.name!r} in the spec, move the host to a pool of its own, or write "
                    f"`resources` into the host's own entry"
                )
    return ""


def _too_little(pool: Pool, machine: Machine, facts: Mapping[str, Any]) -> list[str]:
    found = {"CPU": float(facts["cpus"]), "memory": float(facts["memory"]), "GPU": float(len(facts["gpus"]))}
    wanted: dict[str, float] = {name: float(amount) for name, amount in pool.resources.items()}
    if pool.gpu:
        wanted.setdefault("GPU", float(pool.gpu.count))
    return [
        f"it has {_amount(name, have)}, and its pool promises {_amount(name, wanted[name])}{_trouble(name, facts)}"
        for name, have in found.items()
        if wanted.get(name, 0.0) > have and name not in machine.resources
    ]


def _trouble(name: str, facts: Mapping[str, Any]) -> str:
    """What the driver says of GPUs that cannot be used: why there are too few."""
    return f" (nvidia-smi says: {facts['gpu_trouble']})" if name == "GPU" and facts.get("gpu_trouble") else ""


def _other_gpu(pool: Pool, machine: Machine, facts: Mapping[str, Any]) -> list[str]:
    name = pool.gpu.name if pool.gpu else ""
    others = sorted({gpu["name"] for gpu in facts["gpus"] if not is_model(gpu["name"], gpu.get("memory", 0), name)})
    if not name or not others or "GPU" in machine.resources:
        return []
    return [f"its GPU is {' and '.join(others)}, and its pool promises {name}"]


def _amount(name: str, amount: float) -> str:
    return f"{amount / GIB:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
