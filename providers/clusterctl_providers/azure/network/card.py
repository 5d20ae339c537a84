"""The network card that a machine makes for itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """All but `public` are ids: `subnet`, `security_group`, and `groups` of those that rules name. `public`: it has a public
    address, too, which goes with it."""

    subnet: str
    security_group: str = ""
    public: bool = False
    groups: tuple[str, ...] = ()
