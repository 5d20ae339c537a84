"""The head's instance, from this machine: the same planner, journal and provisioner that the head uses for its nodes.

The journal here is the client's own: of the head's node for as long as the cluster lives, and of the first workers until the
head takes them over. Whatever died wherever, the next `up` looks at the journal and the provider's complete lists, and goes
on. Instances that the journal here does not know are the head's business, and are never touched from here but by `down`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from clusterctl.client.private import write_private
from clusterctl.client.registry import Cluster, read_json
from clusterctl.core.errors import ClusterctlError, ProviderError, Throttled
from clusterctl.core.lifecycle import deadline as deadline_of
from clusterctl.core.model import Action, Launch, Node, NodeState, NodeView, Observed, Plan, Policy, Pool, State
from clusterctl.core.planner import plan as make_plan
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.moved import give_up
from clusterctl.spec.to_core import core_limits, core_pools

if TYPE_CHECKING:
    from clusterctl_providers.base import HasHeadMachine, HeadDisk

    from clusterctl.provision.journal import Journal
    from clusterctl.provision.provisioner import Outcome, Provisioner
    from clusterctl.spec.model import ClusterSpec

LAUNCH_SECONDS = 900.0  # for finding capacity, and for booting as far as "running"
FREE_SECONDS = 90.0  # that the address of a head that has just ended may still be taken
DISK_SECONDS = 120.0  # for the head's disk to be made, and to be let go by the machine that had it
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
HANDED_OVER = "handed-over"  # in the journal's meta: the head launches workers from now on
UNSEEN_SECONDS = 10.0
TOLD = "told"  # in the journal's meta: the head's address that the first workers were told
_UNSURE = frozenset({NodeState.PLANNED, NodeState.REQUESTED})  # a list may lag behind the launch
_NO_DEADLINES = (("booting", 1e12), ("joining", 1e12))  # how long it boots is judged by who logs in to it


@dataclass
class Launching:
    """`place` is the very mapping that the provider has as its setting `head_machine`."""

    cluster: Cluster
    spec: ClusterSpec
    journal: Journal
    provisioner: Provisioner
    place: dict[str, Any]
    tell: Callable[[str], None]
    _sightings: tuple[tuple[str, int], ...] = ()
    _told: set[str] = field(default_factory=set)
    _refusals: list[str] = field(default_factory=list)

    @property
    def provider(self) -> HasHeadMachine:
        return cast("HasHeadMachine", next(iter(self.provisioner.providers.values())))

    # ------------------------------------------------------------ the head

    def known_head(self) -> Node | None:
        """The head's node in the journal, whatever became of its instance."""
        heads = [node for node in self.journal.nodes().values() if node.role == "head"]
        return max(heads, key=lambda node: (node.created, node.id), default=None)

    def accepted(self) -> Node:
        """The head's node with an instance, and so with a private address: the one that is there, else a new one. Raises
        ClusterctlError."""
        return self._until(lambda node, shown: bool(node.address) and (bool(shown) or node.state in _UNSURE))

    def running(self) -> Node:
        return self._until(lambda node, shown: shown == "running")

    def _until(self, good: Callable[[Node, str], bool]) -> Node:
        deadline, pause = time.monotonic() + LAUNCH_SECONDS, FIRST_PAUSE
        while True:
            observed = self._observe()
            plan, outcomes = self._act(observed)
            node = self.known_head()
            if node and good(node, _shown(node, observed)):
                return node
            self._tell_unseen(node, observed)
            if time.monotonic() > deadline or (node is None and self._is_hopeless(plan)):
                raise ClusterctlError(self._why_none())
            if not any(outcome.ok for outcome in outcomes):
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)

    def _tell_unseen(self, node: Node | None, observed: tuple[Observed, ...]) -> None:
        """A launch that was accepted and is not shown: the list may lag behind, or its instance has ended at once."""
        if node is None or node.state not in _UNSURE or not node.instance_id or _shown(node, observed):
            return
        patience = deadline_of(core_pools(self.spec)[0], node.state) or 0.0
        if time.time() - node.since > UNSEEN_SECONDS and node.instance_id not in self._told:
            self._told.add(node.instance_id)
            self.tell(
                f"{node.id} ({node.instance_id}) was launched and is not shown by {self.spec.provider_name}: if it does not come "
                f"up within {patience:g} s of its launch, another takes its place"
            )

    def _observe(self) -> tuple[Observed, ...]:
        observed = self.provisioner.observe()
        for scope in observed:
            if not (scope.complete or scope.recorded):
                raise ClusterctlError(f"what runs of cluster {self.cluster.name!r} cannot be told: {scope.error}")
        return observed

    def _act(self, observed: tuple[Observed, ...]) -> tuple[Plan, list[Outcome]]:
        """Plans for the head alone, and does only what concerns its own records."""
        pool = replace(core_pools(self.spec)[0], deadlines=_NO_DEADLINES)
        heads = [node for node in self.journal.nodes().values() if node.role == "head"]
        state = self._state([pool], heads)
        self._sightings = count_sightings(state, observed)
        disk = self.provider.head_disk() if not heads else None
        known = self.provisioner.offers()
        offers = tuple(o for o in known if o.pool == pool.name and (not disk or o.zone == disk.zone))
        state = replace(state, sightings=self._sightings)
        plan = make_plan(Policy(consolidate=False), observed, state, (), offers, time.time())
        ours = {node.id for node in heads}
        actions = [a for a in plan.actions if isinstance(a, Launch) or getattr(a, "node_id", "") in ours]
        for action in actions:
            self._before(action, heads)
        # A worker whose launch an earlier `up` left open is for `workers`: it is told the head's address, which is not known yet.
        outcomes = self.provisioner.apply(Plan(tuple(actions)), lambda node: node.role == "head")
        for outcome in outcomes:
            self._after(outcome)
        return replace(plan, actions=tuple(actions)), outcomes

    def _before(self, action: Action, heads: Sequence[Node]) -> None:
        if isinstance(action, Launch):
            self._wish_for_its_place(action.offer.zone)
            self.tell(
                f"launching the head: {action.offer.instance_type} in {action.offer.zone} (${action.offer.price:.4g}/h)"
            )
        elif action.op == "mark" and getattr(action, "event", "") == "gone":
            for node in heads:
                self.tell(f"{node.id} ({node.instance_id}) is gone: {action.reason.text}; another head takes its place")

    def _after(self, outcome: Outcome) -> None:
        if isinstance(outcome.action, Launch) and not outcome.ok:
            self._refusals.append(outcome.error)
            self.tell(outcome.error)

    def _is_hopeless(self, plan: Plan) -> bool:
        """Nothing was planned, and not for a reason that passes in seconds."""
        codes = {block.code for block in self.provisioner.blocks(time.time())}
        return not any(isinstance(action, Launch) for action in plan.actions) and Throttled.code not in codes

    def _why_none(self) -> str:
        disk = self.provider.head_disk()
        where = f" in {disk.zone}, where its volume {disk.id} is" if disk else ""
        why = "; ".join(dict.fromkeys(self._refusals)) or "no instance type of `head` is offered there"
        return f"no machine for the head of cluster {self.cluster.name!r} is to be had{where}: {why}"

    def _state(self, pools: Sequence[Pool], nodes: Sequence[Node]) -> State:
        now = time.time()
        return State(
            cluster=self.cluster.name,
            uid=self.cluster.uid,
            pools=tuple(pools),
            nodes=tuple(NodeView(node, node.offer.resources, node.offer.resources) for node in nodes),
            limits=core_limits(self.spec),
            blocks=self.provisioner.blocks(now),
            next_number=self.journal.next_numbers(),
            sightings=self._sightings,
        )

    # ------------------------------------------------------------ its place in the network

    def keep_place(self, node: Node) -> None:
        """A successor takes over the address, so that the nodes find it."""
        where = self.provider.whereabouts(node.instance_id)
        place = {
            "zone": node.offer.zone,
            "subnet": where.subnet,
            "private": where.private,
            "instance": node.instance_id,
        }
        write_private(self.cluster.directory / "head-place.json", json.dumps(place))

    def _wish_for_its_place(self, zone: str) -> None:
        former = read_json(self.cluster.directory / "head-place.json")
        self.place.update(subnet="", private="")
        if former.get("zone") != zone:
            return
        subnet, private = str(former["subnet"]), str(former["private"])
        deadline = time.monotonic() + FREE_SECONDS
        while holder := self.provider.address_holder(subnet, private):
            ours = holder.instance_id == former.get("instance")  # lists lag behind: it has ended
            if time.monotonic() > deadline or not (holder.ending or ours):
                self.tell(
                    f"{private}, the head's address, is taken by {holder.instance_id}: the head gets another one, and nodes, "
                    "which would not find it there, are replaced by new ones"
                )
                return
            if "address" not in self._told:
                self._told.add("address")
                self.tell(f"waiting until {private}, the head's address, is free")
            time.sleep(0.5)
        self.place.update(subnet=subnet, private=private)

    # ------------------------------------------------------------ its disk

    def disk(self, node: Node) -> HeadDisk:
        """The head's disk, attached to its instance. Raises ClusterctlError."""
        disk = self.provider.head_disk()
        if disk is None:
            size = int(self.spec.provider_settings.get("head_volume") or 20 * 1024**3)
            disk = self.provider.make_head_disk(node.offer.zone, size, f"{node.token}-disk"[:64])
        deadline, pause = time.monotonic() + DISK_SECONDS, FIRST_PAUSE
        while not self.provider.attach_head_disk(disk, node.instance_id):
            if time.monotonic() > deadline:
                raise ClusterctlError(
                    f"the head's volume {disk.id} could not be attached to {node.instance_id} within {DISK_SECONDS:g} s"
                    + (f": {disk.attached_to} still has it, end that one" if disk.attached_to else "")
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return disk

    # ------------------------------------------------------------ the first workers

    def workers(self, head: Node) -> None:
        """Launches what the pools' min asks for, once in a cluster's life: they boot while the head does, and are told its
        address. Refusals are told; the head tries again."""
        if self.is_handed_over():
            return
        self._give_up_workers(head)
        nodes = list(self.journal.nodes().values())
        launches: list[Action] = []
        if all(node.role == "head" for node in nodes):
            self.journal.meta_set(TOLD, head.address)
            state = self._state(core_pools(self.spec), nodes)
            plan = make_plan(Policy(consolidate=False), (), state, (), self.provisioner.offers(), time.time())
            launches = [a for a in plan.actions if isinstance(a, Launch) and a.role == "worker"]
        if launches:
            self.tell(f"launching {len(launches)} nodes, which boot while the head does")
        for outcome in self.provisioner.apply(Plan(tuple(launches))):
            if isinstance(outcome.action, Launch) and not outcome.ok:
                self.tell(f"{outcome.error}; the head tries again")

    def _give_up_workers(self, head: Node) -> None:
        """Those that an earlier `up` launched dial a head that was lost before anyone logged in to it. Where its successor has
        another address they are handed over as failed: the head ends them and launches others."""
        told = self.journal.meta_get(TOLD)
        if told and told != head.address:
            nodes = list(self.journal.nodes().values())
            for node in give_up(self.journal, nodes, told, head.id, head.address, time.time()):
                self.tell(f"{node.id} is replaced: {node.reason}")

    def hand_over(self, node: Node, bundle: str) -> str:
        """The document that tells the head who it is and what was launched for it, with the agent of digest `bundle`. From now
        on nothing but the head's own instance is launched from here."""
        self.journal.meta_set(HANDED_OVER, "yes")
        mine = [
            n.id for n in self.journal.nodes().values() if n.id == node.id or (n.role == "worker" and n.instance_id)
        ]
        records = self.journal.export(mine)
        return json.dumps({"own": node.id, "address": node.address, "bundle": bundle, "records": records})

    def refuse_anothers(self) -> None:
        """Raises ClusterctlError where the cluster was started from another home, whose keys this one does not have."""
        disk = self.provider.head_disk()
        if disk is not None:
            raise ClusterctlError(
                f"cluster {self.cluster.name!r} was started from another home: its state is on {disk.id}, and only that home has "
                f"the keys to it. Copy {self.cluster.directory} from there, or end the cluster with `clusterctl down "
                f"{self.cluster.name}`, which removes that volume too"
            )

    def is_handed_over(self) -> bool:
        return bool(self.journal.meta_get(HANDED_OVER))

    def console(self, node: Node) -> str:
        """What its machine printed while it booted, "" where that is not to be had."""
        from clusterctl_providers.base import HasConsole

        try:
            return self.provider.console_log(node.instance_id) if isinstance(self.provider, HasConsole) else ""
        except ProviderError:
            return ""

    def handed_over(self, node: Node) -> None:
        """The head runs and looks after the workers: they leave this journal."""
        now = time.time()
        for other in self.journal.nodes().values():
            if other.role == "worker":
                self.journal.bury(other.id, now, "the head looks after it", "handed_over")
        for event in ("joined", "ready"):
            current = self.journal.get(node.id)
            if current and current.state is not NodeState.READY:
                self.journal.move(node.id, event, now, "the head listens", "ready")


def _shown(node: Node, observed: tuple[Observed, ...]) -> str:
    """The state of the node's instance in the lists, "" where they do not show it."""
    for scope in observed:
        for instance in scope.instances:
            if node.instance_id and instance.id == node.instance_id:
                return instance.state
    return ""
