"""Carries out plans against the simulated cloud, by the rules of the real executor.

A launch is booked before the call; an unknown outcome keeps the intent and the same token is tried again; a refusal ends
the record; a throttled call is made again later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from clusterctl.core.simulate.engine import Simulation

_FIRST_RETRY = 2.0
_LONGEST_RETRY = 60.0
_UNSETTLED = frozenset({NodeState.PLANNED, NodeState.REQUESTED})


class Executor:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._tries: dict[str, int] = {}  # launch token -> unknown outcomes so far

    def apply(self, plan: Plan) -> None:
        """Every action, in order. Launches of one plan reach the cloud together, one call's time later."""
        simulation = self._simulation
        launched: list[Node] = []
        for action in plan.actions:
            if isinstance(action, Launch):
                node = simulation.books.intend(action, simulation.now)
                simulation.record.launches += 1
                simulation.record.log(simulation.now, "launch", node.id, node.offer.key, action.reason.code)
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
                simulation.books.move(action.node_id, "undrain", simulation.now, action.reason)
                simulation.log_action(action.op, action.node_id, action.reason)
                simulation.capacity_grew((action.node_id,))
            else:
                self._mark(action)
        if launched:
            simulation.ask_cloud(tuple(launched), simulation.world.call)

    def _mark(self, mark: Mark) -> None:
        simulation = self._simulation
        simulation.log_action(f"mark {mark.event}", mark.node_id, mark.reason)
        if mark.event in ("gone", "fail"):
            simulation.evict(mark.node_id)
            simulation.changed()
        simulation.books.move(mark.node_id, mark.event, simulation.now, mark.reason, mark.instance_id, mark.address)

    def _drain(self, drain: Drain) -> None:
        simulation = self._simulation
        simulation.log_action(drain.op, drain.node_id, drain.reason)
        node = simulation.books.move(drain.node_id, "drain", simulation.now, drain.reason)
        if not simulation.books.nodes[drain.node_id].work:
            simulation.books.note(drain.node_id, drain="acked")
            simulation.changed()
        elif drain.deadline is not None:
            simulation.drain_until(drain.deadline, node)

    def _terminate(self, end: Terminate) -> None:
        simulation = self._simulation
        simulation.log_action(end.op, end.node_id or end.instance_id, end.reason)
        instance_id = end.instance_id
        if end.node_id:
            simulation.evict(end.node_id)
            node = simulation.books.move(end.node_id, "terminate", simulation.now, end.reason, end.instance_id)
            instance_id = instance_id or node.instance_id
        machine = simulation.cloud.terminate(instance_id, simulation.now) if instance_id else None
        if machine is not None:
            simulation.stop_bill(machine)
        simulation.changed()

    def _stop(self, action: Stop) -> None:
        simulation = self._simulation
        simulation.log_action(action.op, action.node_id, action.reason)
        simulation.books.move(action.node_id, "stop", simulation.now, action.reason)
        machine = simulation.cloud.stop(action.instance_id, simulation.now)
        if machine is not None:
            simulation.rest_bill(machine)

    def _start(self, action: Start) -> None:
        simulation = self._simulation
        simulation.log_action(action.op, action.node_id, action.reason)
        simulation.books.move(action.node_id, "start", simulation.now, replace(action.reason, code=STARTING))
        answer = simulation.cloud.start(action.instance_id, simulation.now)
        if isinstance(answer, Machine):
            simulation.begin_bill(answer)
            simulation.watch(action.offer.pool, NodeState.REQUESTED)
            return
        simulation.record.refused += 1
        simulation.policy.refused(action.offer, answer, simulation.now)
        event = "stopped" if isinstance(answer, NoCapacity) else "fail"
        simulation.books.move(action.node_id, event, simulation.now, Reason(answer.code, str(answer)))
        simulation.changed()

    # ------------------------------------------------------------ what lists reveal

    def learn(self, observed: Observed) -> None:
        """Books the instances of launches whose answer was lost; ends those whose record is ending already."""
        simulation = self._simulation
        for node_id in [i for i, r in simulation.books.nodes.items() if not r.node.instance_id]:
            node = simulation.books.nodes[node_id].node
            for instance in observed.instances:
                if (instance.node_id, instance.generation) == (node_id, node.generation):
                    simulation.books.learn(node_id, instance.id)
                    if node.state is NodeState.TERMINATING:
                        machine = simulation.cloud.terminate(instance.id, simulation.now)
                        if machine is not None:
                            simulation.stop_bill(machine)

    def in_doubt(self) -> bool:
        """Whether another look at the list may change something that no event announces."""
        simulation = self._simulation
        listed = simulation.cloud.listed
        known: set[str] = set()
        for record in simulation.books.nodes.values():
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
        simulation = self._simulation
        wanted: list[Node] = []
        for node in nodes:
            record = simulation.books.nodes.get(node.id)
            if record and record.node.token == node.token and record.node.state in _UNSETTLED:
                wanted.append(record.node)
        answers = simulation.cloud.create(wanted, simulation.now)
        for machine in simulation.cloud.just_made():
            simulation.begin_bill(machine)
        for node, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Machine):
                self._granted(node, answer)
            else:
                self._refused(node, answer)

    def _granted(self, node: Node, machine: Machine) -> None:
        simulation = self._simulation
        simulation.policy.granted(node.offer, simulation.now)
        simulation.books.learn(node.id, machine.id)
        if node.state is NodeState.PLANNED:
            reason = Reason("accepted", "the provider accepted the launch")
            simulation.books.move(node.id, "requested", simulation.now, reason, machine.id)
        simulation.watch(node.offer.pool, NodeState.REQUESTED)

    def _refused(self, node: Node, error: ProviderError) -> None:
        simulation = self._simulation
        now, books = simulation.now, simulation.books
        simulation.record.log(now, "refused", node.id, error.code)
        reason = Reason(error.code, str(error))
        if isinstance(error, Throttled):
            simulation.policy.refused(node.offer, error, now)
            simulation.ask_cloud((node,), error.retry_after)
        elif isinstance(error, UnknownOutcome):
            tries = self._tries[node.token] = self._tries.get(node.token, 0) + 1
            if node.state is NodeState.PLANNED:
                node = books.move(node.id, "requested", now, reason)
            simulation.ask_cloud((node,), min(_FIRST_RETRY * 2 ** min(tries - 1, 10), _LONGEST_RETRY))
        else:
            simulation.record.refused += 1
            simulation.policy.refused(node.offer, error, now)
            books.move(node.id, "fail", now, reason)
            books.move(node.id, "gone", now, reason)
        simulation.changed()
