"""Carries out plans against the simulated cloud, by the rules of the real executor.

A launch is booked before the call; an unknown outcome keeps the intent and the same token is tried again; a refusal ends
the record; a throttled call is made again later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from clusterctl.core.errors import NoCapacity, ProviderError, Throttled, UnknownOutcome
from clusterctl.core.model import (
    STARTING,
    Drain,
    Launch,
    Mark,
    Node,
    NodeState,
    Observed,
    Plan,
    Reason,
    Start,
    Stop,
    Terminate,
    Undrain,
)
from clusterctl.core.simulate.cloud import Machine
from clusterctl.core.simulate.state import State

_FIRST_RETRY = 2.0
_LONGEST_RETRY = 60.0
_UNSETTLED = frozenset({NodeState.PLANNED, NodeState.REQUESTED})


class Loop(Protocol):
    """What follows of an action later, or for others."""

    def changed(self) -> None:
        """The policy is to look at it."""
        ...

    def capacity_grew(self, node_ids: tuple[str, ...]) -> None:
        """Work left these nodes, or may start there again."""
        ...

    def evict(self, node_id: str) -> None:
        """Ends all work on the node; its jobs queue again."""
        ...

    def ask_cloud(self, nodes: tuple[Node, ...], delay: float) -> None:
        """`create` is called with them so many seconds later."""
        ...

    def begin_bill(self, machine: Machine) -> None:
        """The machine costs from now on."""
        ...

    def rest_bill(self, machine: Machine) -> None:
        """The machine is stopped and costs nothing until it is started."""
        ...

    def stop_bill(self, machine: Machine) -> None:
        """The machine has ended."""
        ...

    def watch(self, pool_name: str, state: NodeState) -> None:
        """A node of the pool entered `state`, which has a deadline."""
        ...

    def log_action(self, verb: str, subject: str, reason: Reason) -> None:
        """Writes a line about it."""
        ...


class Executor:
    def __init__(self, state: State, loop: Loop) -> None:
        self._state, self._loop = state, loop
        self._tries: dict[str, int] = {}  # launch token -> unknown outcomes so far

    def apply(self, plan: Plan) -> None:
        """Every action, in order. Launches of one plan reach the cloud together, one call's time later."""
        state = self._state
        launched: list[Node] = []
        for action in plan.actions:
            if isinstance(action, Launch):
                node = state.books.intend(action, state.now)
                state.record.launches += 1
                state.record.log(state.now, "launch", node.id, node.offer.key, action.reason.code)
                launched.append(node)
            elif isinstance(action, Terminate):
                self._terminate(action)
            elif isinstance(action, Stop):
                self._stop(action)
            elif isinstance(action, Start):
                self._start(action)
            elif isinstance(action, Drain):
                self._drain(action)
            elif isinstance(action, Undrain):
                state.books.move(action.node_id, "undrain", state.now, action.reason)
                self._loop.log_action(action.op, action.node_id, action.reason)
                self._loop.capacity_grew((action.node_id,))
            else:
                self._mark(action)
        if launched:
            self._loop.ask_cloud(tuple(launched), state.world.call)

    def _mark(self, mark: Mark) -> None:
        state = self._state
        self._loop.log_action(f"mark {mark.event}", mark.node_id, mark.reason)
        if mark.event in ("gone", "fail"):
            self._loop.evict(mark.node_id)
            self._loop.changed()
        state.books.move(mark.node_id, mark.event, state.now, mark.reason, mark.instance_id, mark.address)

    def _drain(self, drain: Drain) -> None:
        state = self._state
        self._loop.log_action(drain.op, drain.node_id, drain.reason)
        state.books.move(drain.node_id, "drain", state.now, drain.reason, drain_by=drain.deadline)
        if not state.books.nodes[drain.node_id].work:
            state.books.note(drain.node_id, drain="acked")
            self._loop.changed()

    def _terminate(self, end: Terminate) -> None:
        state = self._state
        self._loop.log_action(end.op, end.node_id or end.instance_id, end.reason)
        instance_id = end.instance_id
        if end.node_id:
            self._loop.evict(end.node_id)
            node = state.books.move(end.node_id, "terminate", state.now, end.reason, end.instance_id)
            instance_id = instance_id or node.instance_id
        machine = state.cloud.terminate(instance_id, state.now) if instance_id else None
        if machine is not None:
            self._loop.stop_bill(machine)
        self._loop.changed()

    def _stop(self, action: Stop) -> None:
        state = self._state
        self._loop.log_action(action.op, action.node_id, action.reason)
        state.books.move(action.node_id, "stop", state.now, action.reason)
        machine = state.cloud.stop(action.instance_id, state.now)
        if machine is not None:
            self._loop.rest_bill(machine)

    def _start(self, action: Start) -> None:
        state = self._state
        self._loop.log_action(action.op, action.node_id, action.reason)
        state.books.move(action.node_id, "start", state.now, replace(action.reason, code=STARTING))
        answer = state.cloud.start(action.instance_id, state.now)
        if isinstance(answer, Machine):
            self._loop.begin_bill(answer)
            self._loop.watch(action.offer.pool, NodeState.REQUESTED)
            return
        state.record.refused += 1
        state.policy.refused(action.offer, answer, state.now)
        event = "stopped" if isinstance(answer, NoCapacity) else "fail"
        state.books.move(action.node_id, event, state.now, Reason(answer.code, str(answer)))
        self._loop.changed()

    # ------------------------------------------------------------ what lists reveal

    def learn(self, observed: Observed) -> None:
        """Books the instances of launches whose answer was lost; ends those whose record is ending already."""
        state = self._state
        for node_id in [i for i, r in state.books.nodes.items() if not r.node.instance_id]:
            node = state.books.nodes[node_id].node
            for instance in observed.instances:
                if (instance.node_id, instance.generation) == (node_id, node.generation):
                    state.books.learn(node_id, instance.id)
                    if node.state is NodeState.TERMINATING:
                        machine = state.cloud.terminate(instance.id, state.now)
                        if machine is not None:
                            self._loop.stop_bill(machine)

    def in_doubt(self) -> bool:
        """Whether another look at the list may change something that no event announces."""
        state = self._state
        listed = state.cloud.listed
        known: set[str] = set()
        for record in state.books.nodes.values():
            node = record.node
            if node.state is NodeState.FAILED or (node.instance_id and node.instance_id not in listed):
                return True
            if node.state is NodeState.TERMINATING and not node.instance_id:
                return True
            known.add(node.instance_id)
        return any(machine.ended is None and machine.id not in known for machine in listed.values())

    # ------------------------------------------------------------ answers of the cloud

    def create(self, nodes: tuple[Node, ...]) -> None:
        """The call reaches the cloud: each node still wanted is made, refused, or its fate is unknown."""
        state = self._state
        wanted: list[Node] = []
        for node in nodes:
            record = state.books.nodes.get(node.id)
            if record and record.node.token == node.token and record.node.state in _UNSETTLED:
                wanted.append(record.node)
        answers = state.cloud.create(wanted, state.now)
        for machine in state.cloud.just_made():
            self._loop.begin_bill(machine)
        for node, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Machine):
                self._granted(node, answer)
            else:
                self._refused(node, answer)

    def _granted(self, node: Node, machine: Machine) -> None:
        state = self._state
        state.policy.granted(node.offer, state.now)
        state.books.learn(node.id, machine.id)
        if node.state is NodeState.PLANNED:
            reason = Reason("accepted", "the provider accepted the launch")
            state.books.move(node.id, "requested", state.now, reason, machine.id)
        self._loop.watch(node.offer.pool, NodeState.REQUESTED)

    def _refused(self, node: Node, error: ProviderError) -> None:
        state = self._state
        now, books = state.now, state.books
        state.record.log(now, "refused", node.id, error.code)
        reason = Reason(error.code, str(error))
        if isinstance(error, Throttled):
            state.policy.refused(node.offer, error, now)
            self._loop.ask_cloud((node,), error.retry_after)
        elif isinstance(error, UnknownOutcome):
            tries = self._tries[node.token] = self._tries.get(node.token, 0) + 1
            if node.state is NodeState.PLANNED:
                node = books.move(node.id, "requested", now, reason)
            self._loop.ask_cloud((node,), min(_FIRST_RETRY * 2 ** min(tries - 1, 10), _LONGEST_RETRY))
        else:
            state.record.refused += 1
            state.policy.refused(node.offer, error, now)
            books.move(node.id, "fail", now, reason)
            books.move(node.id, "gone", now, reason)
        self._loop.changed()
