"""Whether a machine has what the spec says of its pools. Pure: facts in, a sentence out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from clusterctl.provision.ssh.inventory import Machine

if TYPE_CHECKING:
    from clusterctl.spec.model import Pool

GIB = 1024**3
_NOT_A_NAME = re.compile(r"[^a-z0-9]")


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
        f"it has {_amount(name, have)}, and its pool promises {_amount(name, wanted[name])}"
        for name, have in found.items()
        if wanted.get(name, 0.0) > have and name not in machine.resources
    ]


def _other_gpu(pool: Pool, machine: Machine, facts: Mapping[str, Any]) -> list[str]:
    """Drivers write long names ("NVIDIA A100-SXM4-80GB"): the spec's is to be a part of them."""
    name = pool.gpu.name if pool.gpu else ""
    others = sorted({gpu["name"] for gpu in facts["gpus"] if _plain(name) not in _plain(gpu["name"])})
    if not name or not others or "GPU" in machine.resources:
        return []
    return [f"its GPU is {' and '.join(others)}, and its pool promises {name}"]


def _plain(name: str) -> str:
    return _NOT_A_NAME.sub("", name.lower())


def _amount(name: str, amount: float) -> str:
    return f"{amount / GIB:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
