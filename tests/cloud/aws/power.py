"""Stops and starts as EC2 does them: they take time, free and need capacity, and all of a call or none is started."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from moto.ec2.models.instances import Instance, InstanceBackend, StateReason

from tests.cloud.aws.moto import _NEXT, _RELEASED, WORLD, _become, vcpus_of
from tests.cloud.aws.world import Refusal


def _wrong_state(instance: Any, verb: str) -> Refusal:
    text = f"The instance '{instance.id}' is not in a state from which it can be {verb}."
    return Refusal("IncorrectInstanceState", text)


def _market(instance: Any) -> str:
    return instance.lifecycle or "on-demand"


def _stop(self: Any, *_: Any, **__: Any) -> Any:
    """Also what a machine does that turns itself off: the instance and its disk stay."""
    previous = copy.copy(self._state)
    if self._state.name not in ("pending", "running"):
        return previous
    text = "Client.UserInitiatedShutdown: User initiated shutdown"
    self.state_reason = StateReason(text, "Client.UserInitiatedShutdown")
    with WORLD.lock:
        _become(self, "stopping", 64)
        _NEXT.put(self.id, WORLD.clock() + WORLD.end_seconds, ("stopped", 80))
        _RELEASED.add(self.id)
        WORLD.give_back(self.instance_type, self._placement.zone, _market(self), vcpus_of(self.instance_type))
    return previous


def _stop_instances(self: Any, instance_ids: list[str]) -> list[tuple[Any, Any]]:
    instances = list(self.get_multi_instances_by_id(instance_ids))
    for instance in instances:
        if _market(instance) == "spot":
            text = (
                "You can't stop the Spot Instance '{}' because it is associated with a one-time Spot Instance request."
            )
            raise Refusal("UnsupportedOperation", text.format(instance.id))
        if instance._state.name not in ("running", "stopping", "stopped"):
            raise _wrong_state(instance, "stopped")
    return [(instance, instance.stop()) for instance in instances]


def _start_instances(self: Any, instance_ids: list[str]) -> list[tuple[Any, Any]]:
    instances = list(self.get_multi_instances_by_id(instance_ids))
    for instance in instances:
        if instance._state.name in ("stopping", "shutting-down", "terminated"):
            raise _wrong_state(instance, "started")
    before = [(instance, copy.copy(instance._state)) for instance in instances]
    asleep = [instance for instance in instances if instance._state.name == "stopped"]
    with WORLD.lock:
        _take(asleep)
        for instance in asleep:
            _RELEASED.discard(instance.id)
            instance.state_reason = StateReason()
            _become(instance, "pending", 0)
            _NEXT.put(instance.id, WORLD.clock() + WORLD.boot_seconds, ("running", 16))
    return before


def _take(instances: list[Any]) -> None:
    """Capacity for all, or for none of them."""
    taken: list[tuple[str, str, str, int, int]] = []
    groups = Counter((i.instance_type, i._placement.zone, _market(i)) for i in instances)
    for (instance_type, zone, market), count in groups.items():
        vcpus = vcpus_of(instance_type)
        try:
            WORLD.take(instance_type, zone, market, vcpus, count, count)
        except Refusal:
            for one in taken:
                WORLD.give_back(*one)
            raise
        taken.append((instance_type, zone, market, vcpus, count))


Instance.stop = _stop
InstanceBackend.stop_instances = _stop_instances
InstanceBackend.start_instances = _start_instances
