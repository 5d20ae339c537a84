"""Chance as a function: a seed and a name give a number, always the same one.

Nothing is drawn from a shared stream, so two policies in the same world meet the same boot times, interruptions and
shortages however many questions each of them asks.
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

_SCALE = float(1 << 64)
_NORMAL = NormalDist()


def uniform(seed: int, *name: object) -> float:
    """A number in (0, 1)."""
    text = "\x1f".join(str(part) for part in (seed, *name))
    word = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return (word + 0.5) / _SCALE if word else 0.5 / _SCALE


def exponential(mean: float, seed: int, *name: object) -> float:
    """A waiting time with the given mean."""
    return -mean * math.log1p(-min(uniform(seed, *name), 1 - 1e-12))


def lognormal(median: float, sigma: float, seed: int, *name: object) -> float:
    """A positive number around `median`; `sigma` is the standard deviation of its logarithm."""
    share = min(max(uniform(seed, *name), 1e-12), 1 - 1e-12)
    return median * math.exp(sigma * _NORMAL.inv_cdf(share))


def chance(probability: float, seed: int, *name: object) -> bool:
    """Whether it happens, at this probability (0 to 1); the same for the same seed and name."""
    return probability > 0 and uniform(seed, *name) < probability
