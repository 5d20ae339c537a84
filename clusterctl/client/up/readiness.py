"""When is `up` done? Judged from the documents of `GET /api/v1/status`, one after the other. What the nodes themselves say
tells why it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USELESS = frozenset({"bad_request", "auth_failed"})  # refusals of a launch that no second try turns round
GIVE_UP_AFTER = 3  # failed launches of a pool while it stays below its min
FAILED_TICKS = 3  # of the autoscaler in a row: what it stumbles over lasts
SETUP_FAILED = "setup_failed"
NAMED = 3  # so many nodes that wait for the same are named one by one
_ENGINE_DONE = frozenset({"", "none", "ready"})


@dataclass
class Readiness:
    """Feed it status documents, each with the nodes that a Lookout sees; then `waiting` says what is missing, and `hopeless` why
    waiting longer is of no use."""

    waiting: list[str] = field(default_factory=list)
    hopeless: list[str] = field(default_factory=list)
    shortage: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # pool -> nodes it can have at most, and why
    setup_failed: dict[str, None] = field(default_factory=dict)  # ids of nodes whose setup failed, in order
    _failed: dict[str, dict[str, str]] = field(default_factory=dict)  # pool -> "node/generation" -> reason

    def feed(self, status: dict[str, Any], nodes: list[dict[str, Any]]) -> bool:
        """True when the head node and every pool's min take work and the engine is up."""
        for node in [
            *status["nodes"],
            *nodes,
        ]:  # those in trouble come with every status, and may be gone by the next look
            self._note_failure(node)
        self.waiting = _missing_nodes(status, nodes) + _missing_engine(status.get("engine") or {})
        self.waiting += [f"pool {name}: {p['text']}" for name, p in _problems(status)]
        self.hopeless = [reason for pool in _short(status) for reason in self._given_up(pool)]
        self.hopeless += self._short_of_machines(status)
        self.hopeless += [f"pool {name}: {p['text']}" for name, p in _problems(status) if p["code"] in USELESS]
        self.hopeless += [f"{n.get('id')}: {_preparing(n).get('error')}" for n in nodes if _is_stuck(n)]
        autoscaler = status.get("autoscaler") or {}
        if autoscaler.get("failing"):
            self.waiting.append(autoscaler["failing"])
            self.hopeless += [autoscaler["failing"]] if autoscaler["failed_ticks"] >= FAILED_TICKS else []
        if (status.get("engine") or {}).get("state") == "failed":
            self.hopeless += _missing_engine(status["engine"])
        return not self.waiting

    def _note_failure(self, node: dict[str, Any]) -> None:
        broken_setup = node.get("code") == SETUP_FAILED
        if node.get("state") == "failed" or (node.get("state") == "terminating" and broken_setup):
            reasons = self._failed.setdefault(node.get("pool", ""), {})
            key = f"{node.get('id')}/{node.get('generation') or node.get('since')}"
            reasons[key] = f"{node.get('id')}: {node.get('reason') or 'failed'}"
        if broken_setup or _is_stuck(node):
            self.setup_failed[str(node.get("id"))] = None

    def _short_of_machines(self, status: dict[str, Any]) -> list[str]:
        """Once everything else is there, why the rest of a pool's min will not come."""
        lacking = {f"pool {name}:" for name in self.shortage}
        others = [text for text in self.waiting if not any(text.startswith(start) for start in lacking)]
        if others or any(_pools(status)[name]["in_service"] < most for name, (most, _) in self.shortage.items()):
            return []
        return [why for _, why in self.shortage.values()] if self.waiting else []

    def _given_up(self, pool: str) -> list[str]:
        failed = self._failed.get(pool, {})
        setups = sum(key.rpartition("/")[0] in self.setup_failed for key in failed)  # each was tried several times
        return list(failed.values())[-GIVE_UP_AFTER:] if len(failed) + setups >= GIVE_UP_AFTER else []

    @property
    def failures(self) -> list[str]:
        """Why launches failed so far, newest last."""
        return [reason for reasons in self._failed.values() for reason in reasons.values()]


def _pools(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, the head's own among them; each with how many of its nodes take work now (`in_service`)."""
    return {"head": {"min": 1, **status["head"]}} | {pool["name"]: pool for pool in status["pools"]}


def _short(status: dict[str, Any]) -> list[str]:
    """Pools of which fewer nodes take work than must."""
    return [name for name, pool in _pools(status).items() if pool["in_service"] < pool["min"]]


def _problems(status: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(pool, why its launches are refused) of pools that are short of nodes."""
    pools = _pools(status)
    return [(name, pools[name]["problem"]) for name in _short(status) if pools[name].get("problem")]


def _takes_work(node: dict[str, Any]) -> bool:
    """As the head counts them: a ready node that is taking changed files or setup is not there yet."""
    taking = _preparing(node).get("state") in ("running", "waiting", "failed")
    return node.get("state") == "ready" and node.get("connected", True) and not taking


def _preparing(node: dict[str, Any]) -> dict[str, Any]:
    return node.get("preparing") or {}


def _is_stuck(node: dict[str, Any]) -> bool:
    """It runs, and the changed setup failed on it often enough."""
    return node.get("state") == "ready" and _preparing(node).get("state") == "failed"


def _missing_nodes(status: dict[str, Any], nodes: list[dict[str, Any]]) -> list[str]:
    missing: list[str] = []
    for name, pool in _pools(status).items():
        ready, wanted = pool["in_service"], pool["min"]
        if ready < wanted or pool.get("preparing"):
            what = "head node" if name == "head" else f"pool {name}: {ready} of {wanted} ready"
            missing.append(_state_of(what, [n for n in nodes if n.get("pool") == name and not _takes_work(n)]))
    return missing


def _state_of(what: str, nodes: list[dict[str, Any]]) -> str:
    """What each node is doing; those that do the same are told together where they are many."""
    alike: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        alike.setdefault((str(node.get("state")), str(node.get("reason") or "")), []).append(str(node.get("id")))
    states: list[str] = []
    for (state, reason), ids in alike.items():
        names = ids if len(ids) <= NAMED else [f"{', '.join(ids[:2])} and {len(ids) - 2} more"]
        states += [f"{name} {state}" + (f" ({reason})" if reason else "") for name in names]
    return f"{what} [{', '.join(states)}]" if states else what


def _missing_engine(engine: dict[str, Any]) -> list[str]:
    state = engine.get("state") or ""
    if state in _ENGINE_DONE:
        return []
    detail = engine.get("message") or ""
    return [f"engine {engine.get('name', '')} {state}".strip() + (f" ({detail})" if detail else "")]
