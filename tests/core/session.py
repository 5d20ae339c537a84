"""A session of commands against the planner, as text: what golden files are made of.

pool NAME min max [idle=S] [hash=H] [keep=N] [head]     puts a pool in the spec, or changes it
offer POOL TYPE PRICE [zone=Z] [spot] AMOUNTS   puts an offer on the market; `withdraw POOL TYPE` takes it off
limits NAME=VALUE ...                           sets limits of the cluster
want ID AMOUNTS [x=N] [gang=N] [strategy=S] [zone] [priority=N]     and `drop ID`
wait SECONDS                                    time passes
plan                                            prints the plan and carries it out, as far as records go
settle                                          the provider and the agents do their part: nodes get ready, stop, or go
busy NODE AMOUNTS [disturbable], free NODE      work starts or ends
ack NODE, notice NODE SECONDS, lose NODE        a drain is acknowledged, a spot notice comes, an instance vanishes
block KEY SECONDS                               the provider refused an offer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from clusterctl.core.lifecycle import next_state
from clusterctl.core.model import (
    STARTING,
    Block,
    Demand,
    Instance,
    Limits,
    Node,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Pool,
    Shape,
    State,
    Work,
)
from clusterctl.core.plan_text import render_plan
from clusterctl.core.resources import Resources
from clusterctl.core.upkeep import count_sightings
from tests.core.worlds import UID, decide


def _split(words: list[str]) -> tuple[list[str], dict[str, str], Resources]:
    """Plain words, options in small letters, and amounts (names in capitals, or `memory`)."""
    plain = [w for w in words if "=" not in w]
    pairs = dict(w.split("=", 1) for w in words if "=" in w)
    amounts = {k: float(v) for k, v in pairs.items() if k.isupper() or k == "memory"}
    return plain, {k: v for k, v in pairs.items() if k not in amounts}, Resources.of(amounts)


class Session:
    def __init__(self) -> None:
        self.now = 0.0
        self.pools: dict[str, Pool] = {}
        self.offers: list[Offer] = []
        self.limits = Limits()
        self.demand: dict[str, Demand] = {}
        self.nodes: dict[str, NodeView] = {}
        self.lost: set[str] = set()
        self.blocks: list[Block] = []
        self.launches: list[float] = []
        self.sightings: tuple[tuple[str, int], ...] = ()

    def run(self, line: str) -> str:
        """What the command prints ("" for most)."""
        verb, *words = line.split()
        plain, options, amounts = _split(words)
        commands: dict[str, Callable[[list[str], dict[str, str], Resources], str | None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }
        return commands[verb](plain, options, amounts) or ""

    # ------------------------------------------------------------ the world

    def do_pool(self, plain: list[str], options: dict[str, str], _: Resources) -> None:
        name, low, high = plain[:3]
        role = "head" if "head" in plain[3:] else "worker"
        self.pools[name] = Pool(
            name, "fake", int(low), int(high), (), float(options.get("idle", 300)), 900.0, role, options.get("hash", ""),
            keep_stopped=int(options.get("keep", 0)),
        )  # fmt: skip

    def do_offer(self, plain: list[str], options: dict[str, str], amounts: Resources) -> None:
        pool, kind, price = plain[:3]
        market, rank = ("spot", 0) if "spot" in plain[3:] else ("on-demand", 1)
        zone = options.get("zone", "a")
        gpu_type = "L4" if "GPU" in amounts else ""
        self.offers.append(Offer(pool, kind, market, zone, float(price), amounts, (), gpu_type, rank=rank))

    def do_withdraw(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self.offers = [o for o in self.offers if (o.pool, o.instance_type) != (plain[0], plain[1])]

    def do_limits(self, _plain: list[str], options: dict[str, str], _: Resources) -> None:
        whole = {"nodes", "launches_per_minute"}
        self.limits = Limits(**{k: int(v) if k in whole else float(v) for k, v in options.items()})  # type: ignore[arg-type]

    def do_want(self, plain: list[str], options: dict[str, str], amounts: Resources) -> None:
        bundles = ((Shape(amounts, pool=options.get("pool", "")), int(options.get("gang", 1))),)
        self.demand[plain[0]] = Demand(
            plain[0],
            "job",
            bundles,
            int(options.get("x", 1)),
            "gang" in options,
            options.get("strategy", ""),  # type: ignore[arg-type]
            "zone" in plain,
            int(options.get("priority", 0)),
            since=self.now,
        )

    def do_drop(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        del self.demand[plain[0]]

    def do_wait(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self.now += float(plain[0])

    def do_block(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self.blocks.append(Block(plain[0], self.now + float(plain[1]), "no_capacity", "the provider has none left"))

    # ------------------------------------------------------------ nodes

    def _node(self, node_id: str, **changes: object) -> None:
        view = self.nodes[node_id]
        node_fields = {k: v for k, v in changes.items() if k in Node.__dataclass_fields__}
        view_fields = {k: v for k, v in changes.items() if k not in node_fields}
        self.nodes[node_id] = replace(view, node=replace(view.node, **node_fields), **view_fields)  # type: ignore[arg-type]

    def _event(self, node_id: str, event: str, **changes: object) -> None:
        state = next_state(self.nodes[node_id].node.state, event)
        self._node(node_id, state=state, since=self.now, **changes)

    def do_busy(self, plain: list[str], _options: dict[str, str], amounts: Resources) -> None:
        work = (Work(f"w-{plain[0]}", amounts, self.now, "disturbable" in plain),)
        self._node(plain[0], work=work, free=self.nodes[plain[0]].total - amounts, idle_since=None)

    def do_free(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self._node(plain[0], work=(), free=self.nodes[plain[0]].total, idle_since=self.now)

    def do_ack(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self._node(plain[0], drain="acked")

    def do_notice(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self._node(plain[0], preempt_at=self.now + float(plain[1]))

    def do_lose(self, plain: list[str], _options: dict[str, str], _: Resources) -> None:
        self.lost.add(plain[0])

    def do_settle(self, _plain: list[str], _options: dict[str, str], _: Resources) -> None:
        for node_id, view in self.nodes.items():
            if view.node.state in (NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING, NodeState.JOINING):
                self._node(node_id, state=NodeState.READY, since=self.now, idle_since=self.now)
            elif view.node.state is NodeState.TERMINATING:
                self._event(node_id, "gone")
            elif view.node.state is NodeState.STOPPING:
                self._event(node_id, "stopped")

    # ------------------------------------------------------------ planning

    def do_plan(self, _plain: list[str], _options: dict[str, str], _: Resources) -> str:
        self.now += 1.0
        state = State(
            "demo",
            UID,
            tuple(self.pools.values()),
            tuple(self.nodes.values()),
            self.limits,
            tuple(self.blocks),
            launches=tuple(self.launches),
            sightings=self.sightings,
        )
        observed = (self._observe(),)
        self.sightings = count_sightings(state, observed)
        state = replace(state, sightings=self.sightings)
        demand, offers = tuple(self.demand.values()), tuple(self.offers)
        result = decide(state, *demand, offers=offers, observed=observed, now=self.now)
        for action in result.actions:
            self._carry_out(action)
        return render_plan(result)

    def _observe(self) -> Observed:
        running = [
            Instance(v.node.instance_id, UID, v.node.id, 1, _shown(v.node.state), created=v.node.created)
            for v in self.nodes.values()
            if v.node.state is not NodeState.GONE and v.node.id not in self.lost
        ]
        return Observed("all", tuple(running), True, self.now)

    def _carry_out(self, action) -> None:
        if action.op == "launch":
            self.launches.append(self.now)
            node = Node(
                action.node_id, 1, action.token, action.offer, NodeState.BOOTING, self.now, self.now, action.role,
                f"i-{action.node_id}", "10.0.0.1", spec_hash=action.spec_hash,
            )  # fmt: skip
            self.nodes[node.id] = NodeView(node, action.offer.resources, action.offer.resources)
        elif action.op == "mark":
            self._event(action.node_id, action.event)
        elif action.op == "drain":
            self._event(action.node_id, "drain", drain="requested", code=action.reason.code)
        elif action.op == "undrain":
            self._event(action.node_id, "undrain", drain="", code="")
        elif action.op == "stop":
            self._event(action.node_id, "stop", drain="", idle_since=None)
        elif action.op == "start":
            self._event(action.node_id, "start", code=STARTING, created=self.now)
        elif action.node_id:
            self._event(action.node_id, "terminate", drain="")


def _shown(state: NodeState) -> Literal["running", "stopped"]:
    return "stopped" if state is NodeState.STOPPED else "running"


def play(text: str) -> str:
    """The golden text that the commands in `text` (lines that start with "$ ") produce now; comments are kept."""
    session = Session()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            printed = session.run(line[2:])
            lines.append(line)
            lines.extend(f"    {out}" for out in printed.splitlines())
        elif line.startswith("#") or not line.strip():
            lines.append(line)
    return "\n".join(lines) + "\n"
