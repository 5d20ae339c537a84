"""When a cluster ends itself, and why not yet. Pure: what is known and the time go in, a moment and its sentence come out.

Three rules, of which the first to come true counts: `at` a moment, whatever runs; `after_last_job`, once no job waits or runs
and at least one did; `idle`, once nothing at all uses the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone

WARN_SECONDS = 600.0  # before `at`, which ends what runs
AT, AFTER_LAST_JOB, IDLE = "at", "after_last_job", "idle"


@dataclass(frozen=True)
class Lifetime:
    """The rules; None where one is not set. Two are seconds, `at` is unix seconds."""

    after_last_job: float | None = None
    idle: float | None = None
    at: float | None = None

    def __bool__(self) -> bool:
        return any(rule is not None for rule in (self.after_last_job, self.idle, self.at))


NONE = Lifetime()


@dataclass(frozen=True)
class Use:
    """What uses the cluster at this moment. `open_jobs`: those that wait, run or are being taken in. `last_end`: when the last
    of those that are known ended, `busy_at`: when a node was last seen in use, both unix seconds, None for never. `others`: what
    beside jobs uses it, in words. `certain_from`: before this moment (unix seconds) not all that uses it has been heard of."""

    open_jobs: int
    last_end: float | None = None
    others: tuple[str, ...] = ()
    busy_at: float | None = None
    certain_from: float = 0.0


@dataclass(frozen=True)
class Seen:
    """What has to outlive a restart of the head: `since` when this life of the cluster lasts (jobs that ended before are of an
    earlier one), when its last job ended, since when nothing uses it (unix seconds, None while that is not so), and of which
    `at` it was warned."""

    since: float = 0.0
    last_end: float | None = None
    idle_since: float | None = None
    warned_of: float | None = None


@dataclass(frozen=True)
class Outlook:
    """`ends_at` (unix seconds) by `rule`; None and "" where no time is named yet. `waits`: why a rule names none, in words."""

    rule: str
    ends_at: float | None
    waits: tuple[str, ...] = ()

    def is_due(self, now: float) -> bool:
        return self.ends_at is not None and now >= self.ends_at


def note(seen: Seen, use: Use, now: float) -> Seen:
    """What is known after this look. Neither moment goes back while its state lasts."""
    if use.open_jobs:
        return replace(seen, idle_since=None)  # when one of many ended is of no interest
    ended = use.last_end if use.last_end is not None and use.last_end > seen.since else None
    last_end = max((end for end in (seen.last_end, ended) if end is not None), default=None)
    if use.others:
        return replace(seen, last_end=last_end, idle_since=None)
    if seen.idle_since is None:
        return replace(seen, last_end=last_end, idle_since=now)
    used = max(seen.idle_since, use.busy_at or 0.0, ended or 0.0)  # between two looks something may have come and gone
    return replace(seen, last_end=last_end, idle_since=min(now, used))


def outlook(lifetime: Lifetime, seen: Seen, use: Use) -> Outlook:
    """Which rule ends the cluster, and when, if nothing changes. `seen` is what `note` made of this very `use`."""
    times: list[tuple[float, str]] = []
    waits: list[str] = []
    if lifetime.at is not None:
        times.append((lifetime.at, AT))
    if lifetime.after_last_job is not None:
        if use.open_jobs:
            waits.append(f"{AFTER_LAST_JOB}: {_jobs(use.open_jobs)}")
        elif seen.last_end is None:
            waits.append(f"{AFTER_LAST_JOB}: no job has come yet")
        else:
            times.append((seen.last_end + lifetime.after_last_job, AFTER_LAST_JOB))
    if lifetime.idle is not None:
        if use.open_jobs:
            waits.append(f"{IDLE}: {_jobs(use.open_jobs)}")
        elif use.others:
            waits.append(f"{IDLE}: {', '.join(use.others)}")
        elif seen.idle_since is not None:
            times.append((max(seen.idle_since + lifetime.idle, use.certain_from), IDLE))
    ends_at, rule = min(times, default=(None, ""))
    return Outlook(rule, ends_at, tuple(waits))


def warns_at(lifetime: Lifetime, seen: Seen) -> float | None:
    """When it is to be said that `at` is near; None where that was said, or there is none."""
    return None if lifetime.at is None or seen.warned_of == lifetime.at else lifetime.at - WARN_SECONDS


def why(rule: str, lifetime: Lifetime) -> str:
    """The reason that an end by this rule has, as a clause: "its last job had ended 10 min before"."""
    if rule == AT:
        return f"its spec says `lifetime: {{at: {moment(lifetime.at or 0.0)}}}`"
    if rule == AFTER_LAST_JOB:
        return f"its last job had ended {span(lifetime.after_last_job or 0.0)} before (`lifetime.after_last_job`)"
    return f"nothing had used it for {span(lifetime.idle or 0.0)} (`lifetime.idle`)"


def tell(seen_ahead: Outlook, now: float, per_hour: float) -> str:
    """One sentence: "ends itself at 2026-12-01 08:00 UTC, in 2 h 10 min; until then about $12.40"."""
    if seen_ahead.ends_at is None:
        return f"ends itself by its lifetime, not yet: {'; '.join(seen_ahead.waits)}"
    left = max(0.0, seen_ahead.ends_at - now)
    cost = f"; until then about ${per_hour * left / 3600:.2f}" if per_hour else "; until then it costs nothing"
    return f"ends itself at {moment(seen_ahead.ends_at)}, in {span(left)} ({seen_ahead.rule}){cost}"


def moment(at: float) -> str:
    """ "2026-12-01 08:00 UTC"."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """ "2 h 10 min", "45 s"; whole days, hours and minutes, the two largest."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"), (rest, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def _jobs(count: int) -> str:
    return f"{count} job{'s wait or run' if count > 1 else ' waits or runs'}"
