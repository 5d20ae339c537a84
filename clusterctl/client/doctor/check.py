"""One line of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """`needed`: no cluster works without it. `found` is what there is, `fix` what to do when it is not `ok`."""

    name: str
    ok: bool
    found: str
    fix: str
    needed: bool = False
