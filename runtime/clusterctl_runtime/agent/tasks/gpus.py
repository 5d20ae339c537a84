"""Which GPU a task gets: ids 0..n-1, whole or in shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_WHOLE = 1.0 - 1e-9  # shares are sums of floats: 0.1 ten times is not quite 1


class NoFreeGpu(Exception):
    """The node has not as many free GPUs as the task asks for; the message says what is free."""


@dataclass
class Share:
    """What one task holds: the ids, and how much of each."""

    ids: list[int] = field(default_factory=list)
    each: float = 0.0


class Gpus:
    """The node's books of GPUs. `names`: the agent's own CUDA_VISIBLE_DEVICES, when it was given a subset."""

    def __init__(self, count: int, names: str = "") -> None:
        self._used = [0.0] * count
        self._given = [name.strip() for name in names.split(",") if name.strip()]
        self._names = self._given if len(self._given) >= count else [str(i) for i in range(count)]

    def name(self, facts: Mapping[str, Any]) -> None:
        """What the driver says of them. Numbers will do where all are well; where one is sick, or is cut into slices, only
        uuids tell which is which."""
        uuids = [gpu["uuid"] for gpu in facts.get("gpus") or ()]
        exact = bool(facts.get("gpu_trouble")) or any(uuid.startswith("MIG-") for uuid in uuids)
        if len(uuids) >= len(self._used) and len(self._given) < len(self._used):
            self._names = uuids if exact else [str(i) for i in range(len(self._used))]

    def assign(self, amount: float, chosen: list[int] | None = None) -> Share:
        """GPUs for `amount` (below one: a share of a device). What the head chose is taken as it is: it keeps the books."""
        if chosen is not None:
            return self._take(self._known(chosen), min(1.0, amount / len(chosen)) if chosen else 0.0)
        if amount <= 0:
            return Share()
        if amount < 1:
            fits = [i for i, used in enumerate(self._used) if used + amount <= 1.0 + 1e-9]
            # The fullest that still fits, so that whole devices stay whole.
            best = max(fits, key=lambda i: (self._used[i], -i), default=None)
            if best is None:
                raise self._refusal(amount)
            return self._take([best], amount)
        free = [i for i, used in enumerate(self._used) if used <= 1 - _WHOLE]
        count = math.ceil(amount - 1e-9)
        if len(free) < count:
            raise self._refusal(amount)
        return self._take(free[:count], 1.0)

    def free(self, share: Share) -> None:
        """Gives back what a task had."""
        for i in share.ids:
            left = self._used[i] - share.each
            self._used[i] = left if left > 1e-9 else 0.0

    def visible(self, share: Share) -> str:
        """The value of CUDA_VISIBLE_DEVICES; empty hides every device."""
        return ",".join(self.names(share))

    def names(self, share: Share) -> list[str]:
        """Of its devices, as CUDA_VISIBLE_DEVICES has them: the driver's numbers, or uuids."""
        return [self._names[i] for i in share.ids]

    def _known(self, chosen: list[int]) -> list[int]:
        unknown = [i for i in chosen if not 0 <= i < len(self._used)]
        if unknown:
            raise NoFreeGpu(f"the head chose GPU {unknown[0]}, but this node has {len(self._used)}")
        return list(chosen)

    def _take(self, ids: list[int], each: float) -> Share:
        for i in ids:
            self._used[i] += each
        return Share(ids, each)

    def _refusal(self, amount: float) -> NoFreeGpu:
        free = ", ".join(f"{i}: {1 - used:.2g} free" for i, used in enumerate(self._used)) or "none on this node"
        return NoFreeGpu(f"the task asks for {amount:g} GPU, which is not free here ({free})")
