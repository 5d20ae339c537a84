"""What is done to an instance that runs, and what happens to it: stops and starts, preemption, maintenance, a broken host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import machine_type
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.instances import Instances
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import Resource
from tests.cloud.gcp.world import Failure, Refusal, not_ready

_COMES = ("PROVISIONING", "STAGING")


class Power:
    def __init__(self, compute: Compute, instances: Instances) -> None:
        self._world, self._store, self._operations = compute.world, compute.store, compute.operations
        self._instances = instances
        instances.time_is_up = self._time_is_up

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.instances.stop": self._stop,
            "compute.instances.start": lambda call: self._start(call, "start", "TERMINATED"),
            "compute.instances.resume": lambda call: self._start(call, "resume", "SUSPENDED"),
            "compute.instances.suspend": self._suspend,
            "compute.instances.reset": self._reset,
        }

    # ------------------------------------------------------------ asked for

    def _stop(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        if instance.status == "STOPPING" or instance.status in _COMES:
            raise not_ready(instance.key)
        if _scratch(instance) and "discardLocalSsd" not in call.query and instance.status == "RUNNING":
            raise Refusal(
                400, "badRequest", "VM has a Local SSD attached but an undefined value for `discard-local-ssd`. If using "
                "gcloud, please add `--discard-local-ssd=false` or `--discard-local-ssd=true` to your command."
            )  # fmt: skip
        if instance.status == "TERMINATED":
            return self._operations.begin(call, "stop", instance.key)
        return self.stop(call, instance)

    def stop(self, call: Call | None, instance: Instance, kind: str = "stop", user: str = "") -> Resource:
        self._instances.next.put(instance.key, float("inf"))
        self._instances.become(instance, "STOPPING")
        seconds = max(self._world.operation_seconds, self._world.end_seconds)
        return self._operations.begin(call, kind, instance.key, lambda: self.stopped(instance), seconds, user=user)

    def stopped(self, instance: Instance) -> None:
        """Its disks and its place in the list stay, its capacity does not."""
        if self._gone(instance) or instance.status != "STOPPING":
            return
        self._instances.pull_out(instance)
        self._instances.capacity.give_back(instance)
        instance.body["lastStopTimestamp"] = self._store.now()
        for interface in instance.body["networkInterfaces"]:
            for config in interface.get("accessConfigs", []):
                config.pop("natIP", None)  # an ephemeral one is lost
        self._instances.become(instance, "TERMINATED")

    def _start(self, call: Call, verb: str, needed: str) -> dict[str, Any]:
        instance = self._instances.named(call)
        if instance.status in ("RUNNING", *_COMES):
            return self._operations.begin(call, verb, instance.key)
        if instance.status != needed:
            if instance.status in ("STOPPING", "SUSPENDING"):
                raise not_ready(instance.key)
            message = f"Instance is in '{instance.status}' state. Instance should be in {needed} state to {verb} it."
            raise Refusal(400, "badRequest", message)
        return self.start(call, instance, verb)

    def start(self, call: Call | None, instance: Instance, kind: str = "start", user: str = "") -> Resource:
        """It needs capacity again: where there is none, its operation ends so and it stays as it was."""
        before, refusal = instance.status, self._refusal(instance)
        instance.preempted = False
        self._instances.become(instance, "PROVISIONING")

        def finish() -> None:
            if refusal:
                raise refusal
            for interface in instance.body["networkInterfaces"]:
                self._instances.give_public(interface)

        seconds = self._world.operation_seconds
        if not refusal:
            seconds = max(seconds, self._world.boot_seconds)
            self._instances.later(
                instance,
                self._world.boot_seconds / 2,
                lambda: self._instances.staged(instance, self._world.boot_seconds / 2),
            )
        return self._operations.begin(
            call, kind, instance.key, finish, seconds, undo=lambda: self._not_started(instance, before), user=user
        )

    def _refusal(self, instance: Instance) -> Failure | None:
        try:
            self._instances.capacity.take(instance)
        except Failure as failure:
            return failure
        return None

    def _not_started(self, instance: Instance, before: str) -> None:
        if not self._gone(instance):
            self._instances.capacity.give_back(instance)
            self._instances.become(instance, before)

    def _suspend(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        found = machine_type(instance.type)
        if instance.status != "RUNNING":
            raise not_ready(instance.key)
        if (found and (found.accelerator or found.memory_mib > 208 * 1024)) or instance.body.get("guestAccelerators"):
            raise Refusal(
                400, "invalid", "Suspending an instance with this machine type or with accelerators is not supported."
            )
        if _scratch(instance) and "discardLocalSsd" not in call.query:
            raise Refusal(
                400, "badRequest", "VM has a Local SSD attached but an undefined value for `discard-local-ssd`."
            )
        self._instances.next.put(instance.key, float("inf"))
        self._instances.become(instance, "SUSPENDING")
        seconds = max(self._world.operation_seconds, self._world.end_seconds)
        return self._operations.begin(call, "suspend", instance.key, lambda: self._suspended(instance), seconds)

    def _suspended(self, instance: Instance) -> None:
        if self._gone(instance):
            return
        self._instances.capacity.give_back(instance)
        instance.body["lastSuspendedTimestamp"] = self._store.now()
        self._instances.become(instance, "SUSPENDED")

    def _reset(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        if instance.status != "RUNNING":
            raise not_ready(instance.key)
        return self._operations.begin(call, "reset", instance.key)

    # ------------------------------------------------------------ what happens

    def preempt(self, instance: Instance) -> None:
        """It is asked to end, and gone `preempt_seconds` later, or stopped if that is its termination action."""
        assert instance.market in ("spot", "flex-start"), f"{instance.handle} is on demand: Google does not preempt it"
        instance.preempted = True
        self._event("compute.instances.preempted", instance)
        self._end(instance, self._world.preempt_seconds)

    def warn(self, instance: Instance) -> None:
        """Its machine is told that its host will be taken out of service."""
        moves = instance.body["scheduling"]["onHostMaintenance"] == "MIGRATE"
        instance.maintenance = f"{'MIGRATE' if moves else 'TERMINATE'}_ON_HOST_MAINTENANCE"

    def host_error(self, instance: Instance) -> None:
        """Its host breaks: it is started again elsewhere, or stays TERMINATED."""
        self._event("compute.instances.hostError", instance)
        self._lose(instance, instance.body["scheduling"]["automaticRestart"])

    def maintain(self, instance: Instance) -> None:
        """Its host is taken out of service: it is moved, or ended and started again elsewhere."""
        instance.maintenance, scheduling = "NONE", instance.body["scheduling"]
        if scheduling["onHostMaintenance"] == "MIGRATE":
            self._event("compute.instances.migrateOnHostMaintenance", instance)
            return
        self._event("compute.instances.terminateOnHostMaintenance", instance)
        if instance.market == "spot":
            self._end(instance, 0.0)
        else:
            self._lose(instance, scheduling["automaticRestart"])

    def shut_down(self, instance: Instance) -> None:
        """It has turned itself off: it stays, TERMINATED, and its disk costs."""
        if self._gone(instance) or instance.status not in ("RUNNING", "STAGING"):
            return
        self._event("compute.instances.guestTerminate", instance)
        self._instances.next.put(instance.key, float("inf"))
        self._instances.become(instance, "STOPPING")
        self._instances.later(instance, self._world.end_seconds, lambda: self.stopped(instance))

    def _time_is_up(self, instance: Instance) -> None:
        if not self._gone(instance) and instance.status == "RUNNING":
            self._end(instance, 0.0)

    def _end(self, instance: Instance, seconds: float) -> None:
        action = instance.body["scheduling"].get("instanceTerminationAction", "STOP")
        self._instances.next.put(instance.key, float("inf"))
        instance.body["status"] = "STOPPING"
        if action == "DELETE":
            self._instances.later(instance, seconds, lambda: self._delete(instance))
        else:
            self._instances.later(instance, seconds, lambda: self._stop_now(instance))

    def _delete(self, instance: Instance) -> None:
        if not self._gone(instance):
            self._instances.tell("DEPROVISIONING", instance)
            self._instances.vanish(instance)

    def _stop_now(self, instance: Instance) -> None:
        self._instances.tell("STOPPING", instance)
        self.stopped(instance)

    def _lose(self, instance: Instance, again: bool) -> None:
        self._instances.next.put(instance.key, float("inf"))
        self._instances.become(instance, "STOPPING")
        self._instances.later(instance, 0.0, lambda: self._lost(instance, again))

    def _lost(self, instance: Instance, again: bool) -> None:
        self.stopped(instance)
        if again and not self._gone(instance):
            self.start(None, instance, "compute.instances.automaticRestart", "system")

    def _event(self, kind: str, instance: Instance, then: Callable[[], None] = lambda: None) -> None:
        """An operation of the cloud's own, done at once."""
        self._operations.begin(None, kind, instance.key, then, 0.0, user="system", target_id=instance.id)

    def _gone(self, instance: Instance) -> bool:
        return self._instances.by_key.get(instance.key) is not instance


def _scratch(instance: Instance) -> bool:
    return any(disk["type"] == "SCRATCH" for disk in instance.body["disks"])
