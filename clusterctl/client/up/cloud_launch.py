"""The head's instance, from this machine: the same planner, journal and provisioner that the head uses for its nodes.

The journal here is the client's own: of the head's node for as long as the cluster lives, and of the first workers until the
head takes them over. Whatever died wherever, the next `up` looks at the journal and the provider's complete lists, and goes
on. Instances that the journal here does not know are the head's business, and are never touched from here but by `down`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, cast

from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.files.private import write_private

from clusterctl.client.begun import note_begun
from clusterctl.client.ended import HEAD_PLACE
from clusterctl.client.patience import PASSING, patiently
from clusterctl.client.registry import Cluster, read_note
from clusterctl.client.up.cloud_search import LAUNCH_RATE, NotToBeHad, Search, Try, next_try
from clusterctl.client.up.readiness import GIVE_UP_AFTER
from clusterctl.core.errors import ClusterctlError, ProviderError, UnknownOutcome
from clusterctl.core.lifecycle import deadline as deadline_of
from clusterctl.core.model import (
    Action,
    Instance,
    Launch,
    Mark,
    Node,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Pool,
    State,
)
from clusterctl.core.planner import plan as make_plan
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.moved_head import give_up
from clusterctl.spec.to_core import core_limits, core_pools

if TYPE_CHECKING:
    from clusterctl_providers.base import HasHeadMachine, HeadDisk, Whereabouts

    from clusterctl.provision.journal.book import Journal
    from clusterctl.provision.provisioner import Outcome, Provisioner
    from clusterctl.spec.model import ClusterSpec

FREE_SECONDS = 90.0  # that the address of a head that has just ended may still be taken
DISK_SECONDS = 120.0  # for the head's disk to be made, and to be let go by the machine that had it
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
HANDED_OVER = "handed-over"  # in the journal's meta: the head launches workers from now on
UNSEEN_SECONDS = 10.0
TOLD = "told"  # in the journal's meta: the head's address that the first workers were told
_UNSURE = frozenset({NodeState.PLANNED, NodeState.REQUESTED})  # a list may lag behind the launch
_ENDING = frozenset({NodeState.FAILED, NodeState.TERMINATING, NodeState.GONE, NodeState.QUARANTINED})
_NO_DEADLINES = (("booting", 1e12), ("joining", 1e12))  # how long it boots is judged by who logs in to it


@dataclass
class Launching:
    """`patience`: seconds for finding capacity for the head, and for its booting as far as "running". `trial`: this is one of
    several places, so that capacity is not waited for, and the first workers are all to be had before anything else is done."""

    cluster: Cluster
    spec: ClusterSpec
    journal: Journal
    provisioner: Provisioner
    tell: Callable[[str], None]
    patience: float
    trial: bool = False
    _sightings: tuple[tuple[str, int], ...] = ()
    _told: set[str] = field(default_factory=set)
    _search: Search = field(default_factory=Search)
    _offers: tuple[Offer, ...] = ()  # of the head, where it may run

    @property
    def provider(self) -> HasHeadMachine:
        return cast("HasHeadMachine", next(iter(self.provisioner.providers.values())))

    # ------------------------------------------------------------ the head

    def known_head(self) -> Node | None:
        """The head's node in the journal, whatever became of its instance."""
        heads = [node for node in self.journal.nodes().values() if node.role == "head"]
        return max(heads, key=lambda node: (node.created, node.id), default=None)

    def accepted(self) -> Node:
        """The head's node with an instance, and so with a private address: the one that is there, else a new one. Whoever asks
        for it wants it tried now, whatever was refused before. Raises ClusterctlError."""
        self.provisioner.forgive()
        return self._until(lambda node, shown: bool(node.address) and (bool(shown) or node.state in _UNSURE))

    def running(self) -> Node:
        """The head's node once its instance runs. Raises ClusterctlError when that takes too long or is refused."""
        return self._until(lambda node, shown: shown == "running")

    def _until(self, good: Callable[[Node, str], bool]) -> Node:
        deadline, pauses = time.monotonic() + self.patience, Backoff(FIRST_PAUSE, LONGEST_PAUSE, factor=1.5)
        while True:
            observed = self._observe()
            plan, outcomes = self._act(observed)
            node = self.known_head()
            if node and node.state not in _ENDING and good(node, _shown(node, observed)):
                return node
            self._tell_slow(node, observed, deadline)
            self._tell_why(node, observed)
            if time.monotonic() > deadline:
                raise NotToBeHad(self._why_none(plan, f"gave up after {self.patience:g} s"))
            if node is None and not any(isinstance(action, Launch) for action in plan.actions):
                self._rest(plan, deadline)
            elif not any(outcome.ok for outcome in outcomes):
                pauses.wait()

    def _rest(self, plan: Plan, deadline: float) -> None:
        """Until something is to be tried again; raises ClusterctlError where nothing is."""
        now = time.time()
        coming = next_try(plan, self._offers, self.provisioner.blocks(now))
        if coming is None or (self.trial and not coming.asked):
            raise NotToBeHad(self._why_none(plan))
        wait = max(coming.at - now, 0.0)
        if time.monotonic() + wait > deadline:
            raise NotToBeHad(self._why_none(plan, _beyond(coming, wait, self.patience)))
        self.tell(f"no machine for the head at this moment: {coming.what} is tried again in {wait:.0f} s")
        time.sleep(wait + 0.01)

    def _tell_slow(self, node: Node | None, observed: tuple[Observed, ...], deadline: float) -> None:
        """Once for each instance that keeps `up` waiting: one that is not shown, where the list may lag behind or it has ended
        at once, and one that takes its time to end."""
        if node is None or not node.instance_id or time.time() - node.since < UNSEEN_SECONDS:
            return
        key = f"{node.instance_id} {node.state.value}"
        provider, ending = self.spec.kind.title, node.state in _ENDING
        if key in self._told or not (ending or (node.state in _UNSURE and not _shown(node, observed))):
            return
        self._told.add(key)
        if ending:
            self.tell(f"waiting until {provider} has ended {node.instance_id}, before another head is launched")
            return
        left = (deadline_of(core_pools(self.spec)[0], node.state) or 0.0) - (time.time() - node.since)
        then = "counts as lost then" if left < deadline - time.monotonic() else "is given up with this `up` before that"
        self.tell(
            f"{node.id} ({node.instance_id}) was launched and is not shown by {provider} yet: it is waited for, {left:.0f} s at "
            f"most, and {then}"
        )

    def _tell_why(self, node: Node | None, observed: tuple[Observed, ...]) -> None:
        """What its provider says of an instance that does not come, each thing once: a scheduler that finds no room, a quota."""
        shown = _instance_of(node, observed) if node else None
        if node is None or shown is None or shown.state != "pending" or not shown.detail:
            return
        key = f"{shown.id} {shown.detail}"
        if key not in self._told and time.time() - node.since >= UNSEEN_SECONDS:
            self._told.add(key)
            self.tell(f"{node.id} ({shown.id}) waits: {shown.detail}")

    def _observe(self) -> tuple[Observed, ...]:
        return patiently(self._look, self.tell)

    def _look(self) -> tuple[Observed, ...]:
        observed = self.provisioner.observe()
        for scope in observed:
            if not (scope.complete or scope.recorded):
                kind = UnknownOutcome if scope.code in PASSING else ProviderError
                raise kind(f"what runs of cluster {self.cluster.name!r} cannot be told: {scope.error}")
        return observed

    def _act(self, observed: tuple[Observed, ...]) -> tuple[Plan, list[Outcome]]:
        """Plans for the head alone, and does only what concerns its own records."""
        pool = replace(core_pools(self.spec)[0], deadlines=_NO_DEADLINES)
        heads = [node for node in self.journal.nodes().values() if node.role == "head"]
        state = self._state([pool], heads)
        self._sightings = count_sightings(state, observed)
        disk = self._disk() if not heads else None
        known = patiently(self.provisioner.offers, self.tell)
        self._offers = tuple(o for o in known if o.pool == pool.name and (not disk or o.zone == (disk.zone or o.zone)))
        state = replace(state, sightings=self._sightings)
        plan = make_plan(Policy(consolidate=False), observed, state, (), self._offers, time.time())
        ours = {node.id for node in heads}
        actions = [a for a in plan.actions if isinstance(a, Launch) or getattr(a, "node_id", "") in ours]
        for action in actions:
            self._before(action, heads)
        if any(isinstance(action, Launch) for action in actions):
            note_begun(self.cluster)
        # A worker whose launch an earlier `up` left open is for `workers`: it is told the head's address, which is not known yet.
        outcomes = self.provisioner.apply(Plan(tuple(actions)), lambda node: node.role == "head")
        for outcome in outcomes:
            self._after(outcome)
        return replace(plan, actions=tuple(actions)), outcomes

    def _before(self, action: Action, heads: Sequence[Node]) -> None:
        if isinstance(action, Launch):
            self._wish_for_its_place(action.offer.zone)
            offer = action.offer
            price = f" (${offer.price:.4g}/h)" if offer.price else ""  # that of a pod may not be known
            self.tell(f"launching the head: {offer.instance_type}{offer.in_where}{price}")
        elif isinstance(action, Mark) and action.event in ("gone", "fail"):
            for node in heads:
                self._tell_end(node, action)

    def _tell_end(self, node: Node, mark: Mark) -> None:
        offer = node.offer
        what = f"{node.id} ({node.instance_id})"
        if node.state in _ENDING:
            return  # told when it failed
        if mark.event == "gone":
            self.tell(f"{what} is gone: {mark.reason.text}")
            return
        text = f"{offer.instance_type}{offer.in_where}: {mark.reason.text}"
        self._search.refused(offer.key, mark.reason.code, text)
        self.tell(f"{what} failed: {text}")

    def _after(self, outcome: Outcome) -> None:
        if outcome.ok or not (isinstance(outcome.action, Launch) or outcome.action is None):
            return
        node = outcome.node
        key = node.offer.key if node else outcome.action.offer.key if outcome.action else ""
        self._search.refused(key, outcome.code, outcome.error)
        self.tell(outcome.error)

    def _why_none(self, plan: Plan, what: str = "") -> str:
        disk = self._disk()
        zone = f" in zone {disk.zone}," if disk and disk.zone else ""
        where = f"{zone} where its volume {disk.id} is" if disk else ""
        why = self._search.why() or "; ".join(f"{w.reason.text} ({w.reason.fix})" for w in plan.waits if w.reason.fix)
        node = self.known_head()
        if node and node.state not in _ENDING:
            why = f"{node.id} ({node.instance_id or 'not accepted yet'}) is {node.state.value}: {node.reason}"
        elif not self._offers:
            why = f"{self.spec.kind.title} offers none of the instance types of `head` there"
        lines = [f"no machine for the head of cluster {self.cluster.name!r} is to be had{where}: {why}"]
        if what:
            lines.append(f"  {what}; `up` again tries at once")
        waiting = [n for n in self.journal.nodes().values() if n.role == "worker" and n.instance_id]
        if waiting:
            lines.append(
                f"  {len(waiting)} nodes launched for it wait: `clusterctl down {self.cluster.name}` ends them"
            )
        return "\n".join(lines)

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
        where = self.whereabouts(node)
        place = {"zone": node.offer.zone, "instance": node.instance_id, **asdict(where.place)}
        write_private(self.cluster.directory / HEAD_PLACE, json.dumps(place))

    def _wish_for_its_place(self, zone: str) -> None:
        from clusterctl_providers.base import NetworkPlace

        former = read_note(self.cluster.directory / HEAD_PLACE)
        self.provisioner.head_place = None
        if former.get("zone") != zone:
            return
        place = NetworkPlace(str(former["subnet"]), str(former["private"]))
        deadline = time.monotonic() + FREE_SECONDS
        while holder := patiently(lambda: self.provider.address_holder(place), self.tell):
            ours = holder.instance_id == former.get("instance")  # lists lag behind: it has ended
            if time.monotonic() > deadline or not (holder.ending or ours):
                self.tell(
                    f"{place.private}, the head's address, is taken by {holder.instance_id}: the head gets another one, and "
                    "nodes, which would not find it there, are replaced by new ones"
                )
                return
            if "address" not in self._told:
                self._told.add("address")
                self.tell(f"waiting until {place.private}, the head's address, is free")
            time.sleep(0.5)
        self.provisioner.head_place = place

    def whereabouts(self, node: Node) -> Whereabouts:
        """Where its instance is in the network; asked again while the cloud fails for a moment."""
        return patiently(lambda: self.provider.whereabouts(node.instance_id), self.tell)

    def renew_access(self) -> None:
        """Makes who may log in, and what the machines may do at the provider, what the settings say now."""
        patiently(self.provider.renew_access, self.tell)

    # ------------------------------------------------------------ its disk

    def _disk(self) -> HeadDisk | None:
        return patiently(self.provider.head_disk, self.tell)

    def disk(self, node: Node) -> HeadDisk:
        """The head's disk, attached to its instance. Raises ClusterctlError."""
        disk = self._disk() or self._make_disk(node)
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, factor=1.5, seconds=DISK_SECONDS)
        while not patiently(lambda: self.provider.attach_head_disk(disk, node.instance_id), self.tell):
            if not pauses.wait():
                raise ClusterctlError(
                    f"the head's volume {disk.id} could not be attached to {node.instance_id} within {DISK_SECONDS:g} s"
                    + (f": {disk.attached_to} still has it, end that one" if disk.attached_to else "")
                )
        return disk

    def _make_disk(self, node: Node) -> HeadDisk:
        assert self.spec.cloud is not None, "only a cloud's head runs on an instance"
        size, token = self.spec.cloud.head_volume, f"{node.token}-disk"[:64]
        return patiently(lambda: self.provider.make_head_disk(node.offer.zone, size, token), self.tell)

    # ------------------------------------------------------------ the first workers

    def workers(self, head: Node) -> None:
        """Launches what the pools' min asks for, once in a cluster's life: they boot while the head does, and are told its
        address. Refusals are told; the head tries again."""
        if self.is_handed_over():
            return
        self._give_up_workers(head)
        if self.trial:
            self._all_workers(head)
            return
        launches: list[Action] = []
        if all(node.role == "head" for node in self.journal.nodes().values()):
            self.journal.meta_set(TOLD, head.address)
            launches = self._missing_workers()[1]
        for outcome in self._launch(launches):
            self.tell(f"{outcome.error}; the head tries again once it runs")

    def _all_workers(self, head: Node) -> None:
        """One offer after the other, until every pool has its min. Raises NotToBeHad where nothing is left to be tried."""
        self.journal.meta_set(TOLD, head.address)
        self._search = Search()  # what was refused of the head is over
        deadline, failed = time.monotonic() + self.patience, Counter[str]()
        while True:
            plan, launches, offers = self._missing_workers()
            refused = self._launch(launches)
            for outcome in refused:
                self._after(outcome)
            failed.update({outcome.action.offer.key for outcome in refused if isinstance(outcome.action, Launch)})
            short = self._short_pools()
            if max(failed.values(), default=0) >= GIVE_UP_AFTER:
                raise NotToBeHad(self._why_short(plan, short))  # what no refusal keeps from being launched again
            if launches:
                continue
            coming = next_try(plan, [o for o in offers if o.pool in short], self.provisioner.blocks(time.time()))
            if not short or any(wait.reason.code == LAUNCH_RATE for wait in plan.waits):
                return  # the rest is the head's to launch
            wait = max(coming.at - time.time(), 0.0) if coming else 0.0
            if coming is None or not coming.asked or time.monotonic() + wait > deadline:
                raise NotToBeHad(self._why_short(plan, short))
            time.sleep(wait + 0.01)

    def _missing_workers(self) -> tuple[Plan, list[Action], tuple[Offer, ...]]:
        """What the planner would launch for the pools' min, of which offers."""
        state = self._state(core_pools(self.spec), list(self.journal.nodes().values()))
        offers = patiently(self.provisioner.offers, self.tell)
        plan = make_plan(Policy(consolidate=False), (), state, (), offers, time.time())
        return plan, [a for a in plan.actions if isinstance(a, Launch) and a.role == "worker"], offers

    def _launch(self, launches: Sequence[Action]) -> list[Outcome]:
        """Launches them, and goes on with what was begun before; returns those that were refused."""
        if launches:
            self.tell(f"launching {len(launches)} nodes, which boot while the head does")
        outcomes = self.provisioner.apply(Plan(tuple(launches)))
        return [one for one in outcomes if isinstance(one.action, Launch) and not one.ok]

    def _short_pools(self) -> dict[str, tuple[int, int]]:
        """Of pools with fewer nodes than their min: (how many there are, their min)."""
        live = Counter(n.pool for n in self.journal.nodes().values() if n.state not in _ENDING)
        return {pool.name: (live[pool.name], pool.min) for pool in self.spec.pools if live[pool.name] < pool.min}

    def _why_short(self, plan: Plan, short: Mapping[str, tuple[int, int]]) -> str:
        told = ", ".join(f"{had} of {least} nodes of pool {name}" for name, (had, least) in short.items())
        why = self._search.why() or "; ".join(wait.reason.text for wait in plan.waits)
        return f"{self.spec.kind.title} has {told}: {why}"

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
        public = self.whereabouts(node).public if self.spec.head.port_open_to else ""
        document = {"own": node.id, "address": node.address, "public": public, "bundle": bundle}
        return json.dumps({**document, "records": self.journal.export(mine)})

    def refuse_anothers(self) -> None:
        """Raises ClusterctlError where the cluster was started from another home, whose keys this one does not have."""
        disk = self._disk()
        if disk is not None:
            raise ClusterctlError(
                f"cluster {self.cluster.name!r} was started from another home: its state is on {disk.id}, and only that home has "
                f"the keys to it. Copy {self.cluster.directory} from there, or end the cluster with `clusterctl down "
                f"{self.cluster.name}`, which removes that volume too"
            )

    def is_handed_over(self) -> bool:
        """Whether the head launches the workers by now: then nothing but the head is launched from here."""
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


def _beyond(coming: Try, wait: float, patience: float) -> str:
    return f"{coming.what} would be tried in {wait:.0f} s, which is after the {patience:g} s of this `up`"


def _shown(node: Node, observed: tuple[Observed, ...]) -> str:
    """The state of the node's instance in the lists, "" where they do not show it."""
    found = _instance_of(node, observed)
    return found.state if found else ""


def _instance_of(node: Node, observed: tuple[Observed, ...]) -> Instance | None:
    instances = (instance for scope in observed for instance in scope.instances)
    return next((one for one in instances if node.instance_id and one.id == node.instance_id), None)
