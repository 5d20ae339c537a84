"""What a spec says of the cluster's end: whether that is still to come, and how people are told of it."""

from __future__ import annotations

from clusterctl.core.lifetime import Lifetime, moment, span
from clusterctl.spec.document import Document
from clusterctl.spec.faults import Fault, SpecError
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.to_core import core_lifetime


def check_to_come(spec: ClusterSpec, located: Document, now: float) -> None:
    """Raises SpecError with the place of a `lifetime.at` that is not after `now` (unix seconds)."""
    if faults := past(spec, located, now):
        raise SpecError(faults)


def past(spec: ClusterSpec, located: Document, now: float) -> tuple[Fault, ...]:
    """What `check_to_come` would raise."""
    at = core_lifetime(spec).at
    if at is None or at > now:
        return ()
    what = f"{moment(at)} is in the past (it is {moment(now)}): the cluster would end itself at once"
    return (located.fault(("lifetime", "at"), what, "write a later moment, with its zone if it is not UTC"),)


def lifetime_notes(spec: ClusterSpec) -> list[str]:
    """A sentence with the rules by which the cluster ends itself, and what it costs then; none where it has none."""
    text, rest = rules_of(spec), billed_at_rest(spec)
    stays = f"; what stays then and is billed until `clusterctl down`: {rest}" if rest else ""
    return [f"{text}{stays}"] if text else []


def rules_of(spec: ClusterSpec) -> str:
    """ "the cluster ends itself 10 min after its last job"; "" where it does not."""
    text = _rules(core_lifetime(spec))
    return f"the cluster ends itself {text}" if text else ""


def billed_at_rest(spec: ClusterSpec) -> str:
    """What a cluster has cost money for that has ended itself: "" where that is nothing."""
    return spec.cloud.billed_at_rest() if spec.head_place == "instance" and spec.cloud else ""


def _rules(rules: Lifetime) -> str:
    parts: list[str] = []
    if rules.at is not None:
        parts.append(f"at {moment(rules.at)}")
    if rules.after_last_job is not None:
        parts.append(f"{span(rules.after_last_job)} after its last job")
    if rules.idle is not None:
        parts.append(f"after {span(rules.idle)} in which nothing uses it")
    return ", or ".join(parts) + (", whichever is first" if len(parts) > 1 else "")
