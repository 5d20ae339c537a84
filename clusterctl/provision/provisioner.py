"""The shell around providers: observe what exists, apply what the core planned, and leave nothing without an owner.

Synchronous, called from one thread at a time. Rules that every line here keeps:
  * a launch is in the journal before its provider is called, and the fence is checked before every call;
  * an unknown outcome keeps the intent, and the same token is tried again: the provider makes it one instance;
  * an instance is ended only when the journal says so, or the plan names it as without owner.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from clusterctl_providers.base import TAG_MAKER, CreateRequest, CreateResult, NetworkPlace, PoolRequest, Provider

from clusterctl.core.errors import (
    BadRequest,
    ClusterctlError,
    NoCapacity,
    NotYet,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import (
    Action,
    Block,
    Drain,
    Failure,
    Instance,
    Launch,
    Mark,
    Node,
    NodeState,
    Observed,
    Offer,
    Plan,
    Start,
    Stop,
    Terminate,
    Undrain,
)
from clusterctl.provision.adopt import adopt_for_new_journal
from clusterctl.provision.blocks import Blocks
from clusterctl.provision.console_tail import AT_ONCE, OVERDUE, console_tail
from clusterctl.provision.ending import end_everything
from clusterctl.provision.journal.book import Journal, StaleFence, planned_node
from clusterctl.provision.outcome import Outcome as Outcome
from clusterctl.provision.pools import PoolBook
from clusterctl.provision.retries import Retries
from clusterctl.provision.stale_actions import refusal_of_end, refusal_of_mark
from clusterctl.provision.stopping import Stopper
from clusterctl.provision.tags import ownership_tags
from clusterctl.provision.watching import Watcher

MakeBootstrap = Callable[[Node, PoolRequest], Mapping[str, Any]]

_UNSETTLED = frozenset({NodeState.PLANNED, NodeState.REQUESTED})
_REFUSALS = {error.code: error for error in (NoCapacity, QuotaExceeded, BadRequest)}  # that came after the launch


class Provisioner:
    """`providers` by name, the first one is the cluster's own. `make_bootstrap` must give the same document for the
    same node and generation (derive its join secret from the launch token): a create may be made again after a
    crash. `head_at`: in words, where the head is, if that is an instance of the cluster's own provider: others' instances bear
    it, so that nobody who finds them there takes them for abandoned."""

    def __init__(
        self,
        journal: Journal,
        providers: Mapping[str, Provider],
        make_bootstrap: MakeBootstrap,
        *,
        cluster: str,
        uid: str,
        clock: Callable[[], float],
        pause: Callable[[float], None] = time.sleep,
        pools: Sequence[PoolRequest] = (),
        head_at: str = "",
    ) -> None:
        self.journal = journal
        self.providers = dict(providers)
        self.cluster = cluster
        self.uid = uid
        self._make_bootstrap = make_bootstrap
        self._clock = clock
        self._pause = pause
        self._head_at = head_at
        self._blocks = Blocks(journal.meta_get("blocks"))
        self._watcher = Watcher(journal, self.providers, uid)
        self._retries = Retries()
        self._capacity_returned = False
        self._consoles_left = AT_ONCE
        self._ended: set[str] = set()  # instance ids whose end a provider has accepted
        self._pools = PoolBook(self.providers, self._watcher.provider_of_pool)
        self._pools.use(pools)
        self.head_place: NetworkPlace | None = None  # what the next head's machine takes over; None: any
        self._stopper = Stopper(journal, self._watcher, self.providers, self._refuse_start, clock)

    # ------------------------------------------------------------ what there is

    def use_pools(self, pools: Iterable[PoolRequest]) -> None:
        """Puts a (new) spec's pools in force. Nodes of pools that left the spec keep their provider."""
        self._pools.use(pools)

    def offers(self, pools: Iterable[PoolRequest] | None = None, *, refresh: bool = False) -> tuple[Offer, ...]:
        """All offers of all pools, from memory for an hour. Raises ProviderError when a provider cannot say."""
        if pools is not None:
            self._pools.use(pools)
        return self._pools.offers(self._clock(), refresh)

    def observe(self) -> tuple[Observed, ...]:
        """Lists every provider. A provider that fails is an incomplete scope; ids that lists reveal are journalled."""
        observed = self._watcher.observe(self._clock())
        adopt_for_new_journal(self.journal, observed, self.uid, self._known_offers, self._clock())
        return observed

    def _known_offers(self) -> tuple[Offer, ...]:
        """For adoption only, which must not fail because a price is not to be had."""
        try:
            return self.offers()
        except ProviderError:
            return ()

    @property
    def sightings(self) -> Mapping[str, int]:
        """Instance id -> in how many lists in a row it was seen."""
        return self._watcher.sightings

    def capacity_returned(self) -> None:
        """Something that was taken is free again: offers without capacity may be tried again."""
        self._capacity_returned = True

    def forgive(self) -> None:
        """What was refused or failed is tried again at once: somebody has looked at it and put a spec in force."""
        self._blocks.clear()
        self.journal.forget_failures()

    def use_providers(self, providers: Mapping[str, Provider]) -> None:
        """Puts providers with other settings in the place of those of the same names, or beside the others. What former ones are
        at goes on."""
        former = [self.providers[name] for name in providers if name in self.providers]
        self.providers.update(providers)
        self._pools.forget_offers()
        for provider in former:
            threading.Thread(target=provider.close, name="former-provider", daemon=True).start()

    def most(self, pool: str) -> int | None:
        """How many nodes of the pool there can be at all, where its provider has only so many machines."""
        return self._pools.most(pool)

    def blocks(self, now: float) -> tuple[Block, ...]:
        """Offers that are not tried for a while, sorted by key."""
        if self._capacity_returned:
            self._capacity_returned = False
            self._blocks.capacity_returned()
        return self._blocks.in_force(now)

    def failures(self, now: float, window: float = 3600.0) -> tuple[tuple[str, float], ...]:
        """(pool, time) of launches that failed in a row within `window` seconds, for the breaker."""
        return self.journal.failures(now - window)

    def last_failures(self) -> tuple[Failure, ...]:
        """Of each pool with such launches, the last one."""
        return self.journal.last_failures()

    def launches(self, now: float, window: float = 60.0) -> tuple[float, ...]:
        """Times of launches within `window` seconds, for the limit of launches per minute."""
        return self.journal.launches(now - window)

    def wake_at(self) -> float | None:
        """When `resume` has something to do even if nothing happens before; None = nothing is open."""
        times = [self._retries.at(node.token) for node in self._unsettled()]
        times += [self._retries.at(node.instance_id) for node in self._unended()] + self._stopper.wake_at()
        return min(times, default=None)

    # ------------------------------------------------------------ what is to be done

    def apply(self, plan: Plan, unfinished: Callable[[Node], bool] = lambda _: True) -> list[Outcome]:
        """Carries out a plan's actions in order, neighbouring ones of a kind in one call per provider. One
        action that fails never stops the others; StaleFence does, and then nothing more is done. Earlier launches that
        are open are finished first, as far as they are `unfinished`."""
        self.journal.check_fence()
        self._consoles_left = AT_ONCE
        outcomes = self.resume(unfinished)
        for kind, actions in groupby(plan.actions, key=type):
            batch: list[Any] = list(actions)
            if kind is Launch:
                outcomes += self._launch(batch)
            elif kind is Terminate:
                outcomes += self._terminate(batch)
            elif kind is Stop:
                outcomes += self._stopper.stop(batch)
            elif kind is Start:
                outcomes += self._stopper.start(batch)
            else:
                outcomes += [self._record(action) for action in batch]
        return outcomes

    def resume(self, unfinished: Callable[[Node], bool] = lambda _: True) -> list[Outcome]:
        """Finishes what a crash, a lost answer or a throttle left open: creates with the same token again, and ends,
        stops and starts again what the journal says and the lists do not show."""
        now = self._clock()
        due = [(None, n) for n in self._unsettled() if unfinished(n) and self._retries.at(n.token) <= now]
        outcomes = self._create(due) if due else []
        ending = [node for node in self._unended() if self._retries.at(node.instance_id) <= now]
        outcomes += self._end([(None, node.instance_id, node.id) for node in ending])
        return outcomes + self._stopper.resume(now)

    def down(self, progress: Callable[[str], None] = lambda _: None, *, patience: float = 300.0) -> None:
        """Ends everything that carries our uid and returns once two complete lists in a row show nothing. Raises
        ClusterctlError, naming what is left, when a provider has failed for `patience` seconds on end."""
        end_everything(
            self.journal, self._watcher, self.providers, self.uid, self._clock, progress, patience, self._pause
        )

    def close(self) -> None:
        """Closes the providers, and not the journal."""
        for provider in self.providers.values():
            provider.close()

    # ------------------------------------------------------------ launches

    def _launch(self, launches: Sequence[Launch]) -> list[Outcome]:
        """Journals all intents in one transaction, then calls each provider once."""
        now = self._clock()
        intents: list[tuple[Action | None, Node]] = []
        refused: list[Outcome] = []
        with self.journal.together():
            for launch in launches:
                try:
                    secret = str(self._bootstrap(planned_node(launch, now)).get("join_token", ""))
                    hashed = hashlib.sha256(secret.encode()).hexdigest() if secret else ""
                    intents.append((launch, self.journal.intend(launch, now, hashed)))
                    self._watcher.remember_provider(launch.offer.pool, self._pools.provider_name(launch.offer.pool))
                except StaleFence:
                    raise
                except ClusterctlError as error:
                    refused.append(Outcome(launch, False, getattr(error, "code", "refused"), str(error)))
        return refused + self._create(intents)

    def _create(self, intents: Sequence[tuple[Action | None, Node]]) -> list[Outcome]:
        """Calls create once per provider. Every intent is on disk by now."""
        outcomes: list[Outcome] = []
        for name in list(self.providers):  # the head adds some meanwhile
            batch = [(action, node) for action, node in intents if self._pools.provider_name(node.pool) == name]
            if not batch:
                continue
            self.journal.check_fence()
            results = self._call_create(name, [self._request(node) for _, node in batch])
            with self.journal.together():
                for (action, node), result in zip(batch, results, strict=True):
                    outcomes.append(self._book(action, node, result))
                self.journal.meta_set("blocks", self._blocks.to_text())
        return outcomes

    def _call_create(self, name: str, requests: list[CreateRequest]) -> Sequence[CreateResult]:
        """The provider's answers. A call that raises, or answers short, may have done anything: every outcome is
        unknown."""
        try:
            results: Sequence[CreateResult] = self.providers[name].create(requests)
            if len(results) == len(requests):
                return results
            trouble = f"it answered {len(results)} of {len(requests)} requests"
        except Exception as error:
            trouble = str(error) or type(error).__name__
        text = f"creating {len(requests)} nodes with provider {name} had no clear outcome ({trouble})"
        return [UnknownOutcome(text)] * len(requests)

    def _book(self, action: Action | None, node: Node, result: CreateResult) -> Outcome:
        """Writes down what became of one create."""
        now, move = self._clock(), self.journal.move
        current = self.journal.get(node.id) or node
        if isinstance(result, Instance) and result.state not in ("stopping", "stopped", "terminated"):
            self._retries.settled(node.token)
            self._blocks.granted(node.offer)
            known = self.journal.learn(node.id, result.id, result.address, now) or node
            if known.state in _UNSETTLED:
                line = f": {result.detail}" if result.queued else ""
                known = move(node.id, "requested", now, f"the provider accepted the launch{line}", "accepted")
            if known.state is NodeState.REQUESTED and result.state == "running":
                known = move(node.id, "running", now, "the provider says that it runs", "running")
            return Outcome(action, True, node=known)
        if isinstance(result, Instance):
            self._retries.settled(node.token)
            text = f"the instance {result.id} of this launch has already ended {result.detail}".rstrip()
            return self._lost(action, current, "instance_ended", text)
        if isinstance(result, Throttled):
            self._retries.wait_until(node.token, now + result.retry_after)
            self._refuse(result, node)
            return Outcome(action, False, result.code, str(result), current)
        if isinstance(result, NotYet):
            self._retries.wait_until(node.token, now + result.retry_after)
            return Outcome(action, True, node=self.journal.note(node.id, str(result), result.code, now))
        if type(result) is ProviderError or isinstance(result, UnknownOutcome):
            self._retries.wait_longer(node.token, now)
            if current.state is NodeState.PLANNED:
                current = move(node.id, "requested", now, str(result), UnknownOutcome.code)
            return Outcome(action, False, UnknownOutcome.code, str(result), current)
        self._retries.settled(node.token)
        self._refuse(result, node)
        return self._lost(action, current, result.code, str(result))

    def _lost(self, action: Action | None, node: Node, code: str, text: str) -> Outcome:
        """Nothing exists for this launch and nothing ever will: its record ends."""
        now = self._clock()
        if node.state in _UNSETTLED:
            self.journal.move(node.id, "fail", now, text, code)
            node = self.journal.move(node.id, "gone", now, text, code)
        return Outcome(action, False, code, text, node)

    def _refuse(self, error: ProviderError, node: Node) -> None:
        pools = self._pools.beside(node.pool)
        self._blocks.refuse(error, node.offer, self._pools.known_offers(pools), pools, self._clock())

    def _refuse_start(self, error: ProviderError, node: Node) -> None:
        self._refuse(error, node)
        self.journal.meta_set("blocks", self._blocks.to_text())

    def _unsettled(self) -> list[Node]:
        """Launches that no create has confirmed yet, also where a list already shows something of them: what it shows
        may be half an instance, which only the same create finishes."""
        return [
            node
            for node in self.journal.in_state(NodeState.PLANNED, NodeState.REQUESTED)
            if node.state is NodeState.PLANNED or not node.instance_id or node.code == UnknownOutcome.code
        ]

    def _unended(self) -> list[Node]:
        """Nodes whose end is journalled and that the lists still show, though no provider has accepted their end."""
        return [
            node
            for node in self.journal.in_state(NodeState.TERMINATING)
            if node.instance_id not in self._ended and self._watcher.shows_running(node.instance_id)
        ]

    def _request(self, node: Node) -> CreateRequest:
        pool = self._pools.request(node)
        orphan_timeout = pool.spec.get("orphan_timeout")
        tags = ownership_tags(self.cluster, self.uid, node, orphan_timeout)
        if self._head_at and self._pools.provider_name(node.pool) != next(iter(self.providers)):
            tags[TAG_MAKER] = self._head_at
        return CreateRequest(
            token=node.token,
            node_id=node.id,
            generation=node.generation,
            offer=node.offer,
            tags=tags,
            bootstrap=self._bootstrap(node),
            pool=pool,
            place=self.head_place if node.role == "head" else None,
        )

    def _bootstrap(self, node: Node) -> Mapping[str, Any]:
        return self._make_bootstrap(node, self._pools.request(node))

    # ------------------------------------------------------------ ends and records

    def _terminate(self, actions: Sequence[Terminate]) -> list[Outcome]:
        """Journals all ends, then calls each provider once. A node whose instance is not known yet is only
        journalled: if the instance shows up later, `resume` ends it."""
        ends: list[tuple[Action | None, str, str]] = []
        outcomes: list[Outcome] = []
        with self.journal.together():
            for action in actions:
                node = self.journal.get(action.node_id) if action.node_id else None
                refusal = refusal_of_end(action, node, self.journal.nodes().values(), self._watcher.sightings)
                if refusal:
                    outcomes.append(Outcome(action, False, "stale_plan", refusal, node))
                    continue
                if node and node.state is not NodeState.GONE:
                    node = self.journal.move(
                        node.id, "terminate", self._clock(), action.reason.text, action.reason.code, action.instance_id
                    )
                instance_id = action.instance_id or (node.instance_id if node else "")
                if instance_id:
                    ends.append((action, instance_id, action.node_id))
                else:
                    outcomes.append(Outcome(action, True, node=node))
        return outcomes + self._end(ends)

    def _end(self, ends: Sequence[tuple[Action | None, str, str]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for name, provider in list(self.providers.items()):
            batch = [end for end in ends if self._watcher.provider_of(end[1], self._pool_of(end[2])) == name]
            if not batch:
                continue
            self.journal.check_fence()
            code = error = ""
            ids = [instance_id for _, instance_id, _ in batch]
            try:
                provider.terminate(ids)
                self._ended.update(ids)
            except Exception as trouble:
                code = getattr(trouble, "code", UnknownOutcome.code)
                error = str(trouble) or type(trouble).__name__
            for instance_id in ids:
                self._retries.wait_longer(instance_id, self._clock()) if error else self._retries.settled(instance_id)
            for action, _, node_id in batch:
                outcomes.append(Outcome(action, not error, code, error, self.journal.get(node_id) if node_id else None))
        return outcomes

    def _record(self, action: Action) -> Outcome:
        """Drain, undrain and mark change records only; what a gone node left behind (a directory, a disk) is
        removed."""
        try:
            if isinstance(action, Mark):
                known = self.journal.get(action.node_id)
                if refusal := refusal_of_mark(action, known):
                    return Outcome(action, False, "stale_plan", refusal, known)
                node = self._move(action.node_id, action.event, action, action.instance_id, action.address)
                if action.event == "fail" and action.reason.code in _REFUSALS:
                    self._refuse(_REFUSALS[action.reason.code](action.reason.text), node)
                    self.journal.meta_set("blocks", self._blocks.to_text())
                if action.event == "gone" and node.instance_id in self._watcher.remains:
                    self._end([(action, node.instance_id, node.id)])
            elif isinstance(action, Drain | Undrain):
                node = self._move(action.node_id, action.op, action)
            else:
                raise TypeError(f"cannot apply a {type(action).__name__}")
        except StaleFence:
            raise
        except ClusterctlError as error:
            return Outcome(action, False, "refused", str(error), self.journal.get(getattr(action, "node_id", "")))
        if node.state is NodeState.QUARANTINED:
            return Outcome(action, False, node.code, node.reason, node)
        return Outcome(action, True, node=node)

    def _move(
        self, node_id: str, event: str, action: Drain | Undrain | Mark, instance_id: str = "", address: str = ""
    ) -> Node:
        text, code = action.reason.text, action.reason.code
        if event == "fail" and code in OVERDUE and self._consoles_left > 0:
            self._consoles_left -= 1
            known = self.journal.get(node_id)
            text += console_tail(self.providers[self._provider_of(known)], known.instance_id) if known else ""
        by = action.deadline if isinstance(action, Drain) else None
        return self.journal.move(node_id, event, self._clock(), text, code, instance_id, address, drain_by=by)

    def _provider_of(self, node: Node) -> str:
        return self._watcher.provider_of(node.instance_id, node.pool)

    def _pool_of(self, node_id: str) -> str:
        node = self.journal.get(node_id) if node_id else None
        return node.pool if node else ""
