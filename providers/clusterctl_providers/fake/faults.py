"""The script of a fake cloud's misfortunes, as users write it under `faults:`.

Every fault: `kind`, and optionally `offer` (a pattern over pool/type/market/zone, default all), `from` and `until`
(seconds since the cloud was first used), `times` (how often it strikes, default always). By kind:

    no_capacity                    create: the offer is sold out
    quota         limit, quota     create: refused when `limit` matching instances live; `quota` names it
    bad_request, auth_failed       create: refused (auth_failed: list and terminate too)
    throttled     call, retry_after   any call, or the one named: nothing is done
    lost_call     call             create, terminate, stop or start: nothing is done, and no answer comes
    lost_answer   call             create, terminate, stop or start: it is done, but no answer comes
    slow_boot     seconds          boots in so many seconds instead of `boot_seconds`
    lost_boot                      stays pending for ever
    no_agent                       runs, but its agent never calls
    spot_loss     after, notice    taken away so many seconds after it runs; announced `notice` seconds before (default 120,
                                   at most half of `after`; with `boot: local`, to the node as EC2 does)
    stale_list    seconds          lists lag: new instances are missing, ended ones still run
    partial_list  scope            the list of that zone (or of all) breaks off half-way and says so
    missing_pages  scope           the list of that zone (or of all) is empty and claims to be complete
    address_reuse                  gets the address of the instance that ended last
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from clusterctl.core.errors import BadRequest

_COMMON = frozenset({"kind", "offer", "from", "until", "times"})
KINDS: dict[str, frozenset[str]] = {
    "no_capacity": frozenset(),
    "quota": frozenset({"limit", "quota"}),
    "bad_request": frozenset(),
    "auth_failed": frozenset(),
    "throttled": frozenset({"call", "retry_after"}),
    "lost_call": frozenset({"call"}),
    "lost_answer": frozenset({"call"}),
    "slow_boot": frozenset({"seconds"}),
    "lost_boot": frozenset(),
    "no_agent": frozenset(),
    "spot_loss": frozenset({"after", "notice"}),
    "stale_list": frozenset({"seconds"}),
    "partial_list": frozenset({"scope"}),
    "missing_pages": frozenset({"scope"}),
    "address_reuse": frozenset(),
}


@dataclass(frozen=True)
class Fault:
    """`number` is its place in the script: the cloud remembers under it how often the fault has struck."""

    number: int
    kind: str
    offer: str = "*"
    start: float = 0.0
    end: float = math.inf
    times: float = math.inf
    call: str = ""
    scope: str = ""
    seconds: float = 0.0
    after: float = 0.0
    notice: float = 120.0
    retry_after: float = 1.0
    limit: int = 0
    quota: str = ""

    def strikes(self, now: float, used: int, *, offer: str = "", call: str = "", scope: str = "") -> bool:
        """Whether it applies at `now` (seconds since the cloud was first used), having struck `used` times."""
        return (
            self.start <= now < self.end
            and used < self.times
            and (not offer or fnmatchcase(offer, self.offer))
            and (not call or self.call in ("", call))
            and (not scope or self.scope in ("", scope))
        )


def parse_faults(script: Sequence[Mapping[str, Any]]) -> tuple[Fault, ...]:
    """Raises BadRequest that names the entry and what would be right."""
    return tuple(_parse(number, dict(entry)) for number, entry in enumerate(script))


def _parse(number: int, entry: dict[str, Any]) -> Fault:
    kind = str(entry.get("kind", ""))
    if kind not in KINDS:
        raise BadRequest(f"faults[{number}]: kind {kind!r} is unknown; expected one of {', '.join(sorted(KINDS))}")
    unknown = sorted(set(entry) - _COMMON - KINDS[kind])
    if unknown:
        allowed = ", ".join(sorted(_COMMON | KINDS[kind]))
        raise BadRequest(f"faults[{number}] ({kind}): unknown key {unknown[0]!r}; it takes {allowed}")
    named = {"from": "start", "until": "end"}
    values = {named.get(key, key): value for key, value in entry.items()}
    try:
        for key in ("start", "end", "times", "seconds", "after", "notice", "retry_after"):
            if key in values:
                values[key] = float(values[key])
        return Fault(number=number, **values)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"faults[{number}] ({kind}): {error}") from error
