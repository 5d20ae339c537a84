"""What a service needs next: which replicas to start, which to take out, and whether a new version has proven itself.

Looks at everything anew each time, so that it does not matter what happened meanwhile or how often it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "starting", "well", "ill", "broken"]
_BEST_FIRST = {"well": 0, "ill": 1, "starting": 2, "waiting": 3, "broken": 4}

LEAVE_SECONDS = 15.0  # before its node's end a replica gets no new requests, also where no other is well
FORGOTTEN_SECONDS = 600.0  # after which an end counts no more
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0


@dataclass(frozen=True)
class Replica:
    """`waiting`: its job is queued; `starting`: its program runs and was not well yet; `ill`: it was; `broken`: it ended by
    itself, and `why` says how. `since`: from when it is so (unix seconds). `moving`: its node drains, and ends at `by`, if that
    is known."""

    job: str
    version: int
    state: State
    since: float = 0.0
    why: str = ""
    moving: bool = False
    by: float | None = None


@dataclass(frozen=True)
class Wish:
    """So many `replicas` of version `wanted`; while that has not proven itself, `current` is the one that has (0: none).
    `patience`: seconds that a replica of `wanted` has to become well. `ends`: when replicas of `current` ended by themselves.
    `surge`: in an update new replicas start beside the old ones; else one old one leaves first each time."""

    replicas: int
    current: int
    wanted: int
    patience: float
    ends: Sequence[float] = ()
    surge: bool = True

    @property
    def is_update(self) -> bool:
        return self.wanted != self.current


@dataclass(frozen=True)
class Decision:
    """`start`: a version for each replica to start. `leave`: replicas that get no more requests and then end, each with why.
    `give_up`: why `wanted` is no good, "" where nothing says so; then nothing else is decided,
    and `culprit` is the replica that shows it. `look_at`: when to look again
    though nothing happens."""

    start: tuple[int, ...] = ()
    leave: tuple[tuple[str, str], ...] = ()
    promote: bool = False
    give_up: str = ""
    culprit: str = ""
    look_at: float | None = None


def decide(wish: Wish, replicas: Sequence[Replica], now: float) -> Decision:
    """`replicas` without those that are leaving."""
    if wish.is_update and (fault := _fault(wish, replicas, now)):
        return Decision(give_up=fault[1], culprit=fault[0])
    alive = [r for r in replicas if r.state != "broken"]
    lasting = sorted((r for r in alive if r.version == wish.wanted and not r.moving), key=_rank)
    others = sorted((r for r in alive if r.version != wish.wanted or r.moving), key=_rank)
    leave = [(r.job, f"it was scaled to {wish.replicas}") for r in lasting[wish.replicas :]]
    lasting = lasting[: wish.replicas]
    hopeless = [] if wish.is_update else [r for r in lasting if _is_hopeless(r, wish.patience, now)]
    leave += [(r.job, f"it is not well: {r.why}") for r in hopeless]
    lasting = [r for r in lasting if r not in hopeless]
    well = sum(r.state == "well" for r in lasting)
    missing = max(0, wish.replicas - well - (wish.is_update and not wish.surge))
    kept, gone = _bridging(others, missing, now)
    leave += [(r.job, _why_gone(r, wish)) for r in gone]
    start = _started(wish, len(lasting), len(kept), missing, now)
    return Decision(
        start=start,
        leave=tuple(leave),
        promote=wish.is_update and well >= wish.replicas,
        look_at=_next_look(wish, [*lasting, *kept], now),
    )


def _rank(replica: Replica) -> tuple[int, bool, float, str]:
    return _BEST_FIRST[replica.state], replica.moving, replica.since, replica.job


def _fault(wish: Wish, replicas: Sequence[Replica], now: float) -> tuple[str, str] | None:
    """(The replica that shows that the new version is no good, why)."""
    for replica in replicas:
        if replica.version != wish.wanted:
            continue
        if replica.state == "broken":
            return replica.job, f"{replica.job} {replica.why}"
        if not replica.moving and _is_hopeless(replica, wish.patience, now):
            why = replica.why or "no check has ended"
            return replica.job, f"{replica.job} was not well {wish.patience:g} s after its start: {why}"
    return None


def _is_hopeless(replica: Replica, patience: float, now: float) -> bool:
    return replica.state in ("starting", "ill") and now >= replica.since + patience


def _bridging(others: Sequence[Replica], missing: int, now: float) -> tuple[list[Replica], list[Replica]]:
    """Of an earlier version, or on nodes that are about to end: (those that stay until others are well, those that go)."""
    kept: list[Replica] = []
    gone: list[Replica] = []
    for replica in others:
        is_late = replica.by is not None and now >= replica.by - LEAVE_SECONDS
        is_use = not replica.moving or (replica.state == "well" and not is_late)
        (kept if is_use and len(kept) < missing else gone).append(replica)
    return kept, gone


def _why_gone(replica: Replica, wish: Wish) -> str:
    return "its node goes" if replica.moving else f"version {wish.wanted} takes its place"


def _started(wish: Wish, lasting: int, kept: int, bridging: int, now: float) -> tuple[int, ...]:
    """`bridging`: how many of an earlier version are to serve until others do."""
    new = max(0, wish.replicas - lasting)
    if not wish.is_update:
        return (wish.wanted,) * new if now >= restart_at(wish.ends, now) else ()
    old = max(0, bridging - kept) if wish.current and now >= restart_at(wish.ends, now) else 0
    if not wish.surge:
        new = min(new, max(0, wish.replicas - lasting - kept - old))
    return (wish.wanted,) * new + (wish.current,) * old


def restart_at(ends: Sequence[float], now: float) -> float:
    """When the next replica may be started: at once after the first end in a while, then after pauses that grow."""
    lately = [end for end in ends if end > now - FORGOTTEN_SECONDS]
    if len(lately) < 2:
        return 0.0
    return max(lately) + min(FIRST_PAUSE * 2.0 ** (len(lately) - 2), LONGEST_PAUSE)


def _next_look(wish: Wish, replicas: Sequence[Replica], now: float) -> float | None:
    moments = [r.since + wish.patience for r in replicas if r.state in ("starting", "ill")]
    moments += [r.by - LEAVE_SECONDS for r in replicas if r.by is not None]
    moments.append(restart_at(wish.ends, now))
    return min((moment for moment in moments if moment > now), default=None)
