"""Machines that are stopped and started, evicted, warned, or turn themselves off."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from email.utils import formatdate
from time import time
from typing import Any

from tests.cloud.azure.disks import Disks
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.operations import Operations
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Store
from tests.cloud.azure.vms import Vms
from tests.cloud.azure.world import Failure, Refusal, World
from tests.cloud.world import Timetable

PREEMPT_SECONDS = 30.0  # that Azure tells in advance


class Power:
    def __init__(
        self, world: World, store: Store, operations: Operations, services: Services, vms: Vms, disks: Disks,
        forget: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self._world, self._store, self._operations = world, store, operations
        self._vms, self._disks, self._forget = vms, disks, forget
        self.confirmed: list[tuple[str, str]] = []  # (name of a machine, kind of its event)
        self._due = Timetable()  # key -> what becomes of a machine
        for name, handler in {
            "start": self._start, "deallocate": self._deallocate, "powerOff": self._power_off, "restart": self._restart,
            "generalize": self._generalize, "instanceView": self._look, "simulateEviction": self._simulate,
            "attachDetachDataDisks": self._change_disks,
        }.items():  # fmt: skip
            services.on(f"virtualMachines.{name}", handler)

    def advance(self) -> None:
        for _, step in self._due.take(self._world.clock()):
            step()

    # ------------------------------------------------------------ asked for

    def _machine(self, call: Call, power: bool = True) -> Machine:
        machine = self._vms.named(call.id.rpartition("/")[0])
        if machine.deleting:
            message = f"The operation cannot be completed because the VM '{machine.name}' is marked for deletion."
            raise Refusal(409, "OperationNotAllowed", message)
        if power and machine.state == "Creating":
            message = f"Operation is not allowed on VM '{machine.name}' since it is being created."
            raise Refusal(409, "OperationNotAllowed", message)
        return machine

    def _under_way(
        self, call: Call, machine: Machine, finish: Callable[[], Any], seconds: float | None = None,
        failed: Callable[[Failure], None] = lambda failure: None,
    ) -> Answer:  # fmt: skip
        def end() -> None:
            if not machine.deleting:
                finish()

        operation = self._operations.begin(call, machine.resource["id"], machine.region, end, seconds, failed)
        return Answer(202, None, self._operations.headers(operation))

    def _start(self, call: Call) -> Answer:
        machine = self._machine(call)
        if machine.generalized:
            message = f"Operation 'start' is not allowed on VM '{machine.name}' since the VM is generalized."
            raise Refusal(409, "OperationNotAllowed", message)
        if machine.power == "running":
            return self._under_way(call, machine, lambda: None)
        before = machine.power
        failure = None if machine.holds else self._vms.capacity.refusal(machine)
        if failure is None:
            self._vms.capacity.take(machine)
            self._vms.become(machine, "starting")

        def finish() -> None:
            if failure:
                raise failure
            self._run(machine)

        def failed(why: Failure) -> None:
            machine.resource["properties"]["provisioningState"] = "Failed"
            machine.failure = why
            machine.power = before
            if before == "deallocated":
                self._vms.capacity.give_back(machine)

        return self._under_way(
            call, machine, finish, max(self._world.operation_seconds, self._world.boot_seconds), failed
        )

    def _run(self, machine: Machine) -> None:
        machine.resource["properties"]["provisioningState"] = "Succeeded"
        machine.failure = None
        self._set_disks(machine, "Attached")
        self._vms.become(machine, "running")
        self._vms.plug_in(machine)

    def _deallocate(self, call: Call) -> Answer:
        machine = self._machine(call)
        if machine.power != "deallocated":
            self._vms.become(machine, "deallocating")
        return self._under_way(call, machine, lambda: self.deallocated(machine), self._end_seconds())

    def deallocated(self, machine: Machine) -> None:
        """Its host is somebody else's; its disks and addresses stay."""
        self._vms.pull_out(machine)
        self._vms.capacity.give_back(machine)
        self._set_disks(machine, "Reserved")
        self._vms.become(machine, "deallocated")

    def _power_off(self, call: Call) -> Answer:
        """It is billed on."""
        machine = self._machine(call)
        if machine.power in ("deallocated", "deallocating"):
            return self._under_way(call, machine, lambda: None)
        self._vms.become(machine, "stopping")

        def finish() -> None:
            self._vms.pull_out(machine)
            self._vms.become(machine, "stopped")

        return self._under_way(call, machine, finish, self._end_seconds())

    def _restart(self, call: Call) -> Answer:
        machine = self._machine(call)
        if machine.power != "running":
            message = f"The VM '{machine.name}' is not running: it cannot be restarted."
            raise Refusal(409, "OperationNotAllowed", message)
        self._vms.pull_out(machine)
        self._vms.become(machine, "stopping")
        return self._under_way(call, machine, lambda: self._run(machine))

    def _generalize(self, call: Call) -> Answer:
        machine = self._machine(call)
        if machine.power not in ("stopped", "deallocated"):
            message = (
                f"The operation 'generalize' is not allowed on VM '{machine.name}' since it is running: stop it first."
            )
            raise Refusal(409, "OperationNotAllowed", message)
        machine.generalized = True
        return Answer(200)

    def _look(self, call: Call) -> dict[str, Any]:
        return self._vms.instance_view(self._vms.named(call.id.rpartition("/")[0]))

    def _change_disks(self, call: Call) -> Answer:
        """Data disks come and go, and nothing else is touched."""
        machine = self._machine(call)
        attach = [
            {**entry, "managedDisk": {"id": entry["diskId"]}} for entry in call.body.get("dataDisksToAttach") or []
        ]  # fmt: skip
        for entry in attach:
            call.need_linked("Microsoft.Compute/disks/write", entry["diskId"])
        detach = [entry["diskId"].lower() for entry in call.body.get("dataDisksToDetach") or []]
        have = {d["managedDisk"]["id"].lower() for d in machine.properties["storageProfile"]["dataDisks"]}
        if missing := [id_ for id_ in detach if id_ not in have]:
            message = f"Cannot detach data disk '{missing[0]}': it is not attached to VM '{machine.name}'."
            raise Refusal(400, "InvalidParameter", message, "dataDisksToDetach")
        self._vms.change_disks(machine, attach, detach)
        seconds = max(self._world.operation_seconds, self._world.volume_seconds)
        operation = self._operations.begin(
            call, machine.resource["id"], machine.region, lambda: machine.properties["storageProfile"], seconds
        )  # fmt: skip
        return Answer(202, None, self._operations.headers(operation))

    def _set_disks(self, machine: Machine, state: str) -> None:
        storage = machine.properties["storageProfile"]
        for disk in (storage["osDisk"], *storage["dataDisks"]):
            if found := self._store.find(disk["managedDisk"]["id"]):
                found["properties"]["diskState"] = state

    def _end_seconds(self) -> float:
        return max(self._world.operation_seconds, self._world.end_seconds)

    # ------------------------------------------------------------ that happens

    def _simulate(self, call: Call) -> Answer:
        machine = self._machine(call)
        if machine.market != "spot":
            message = f"Eviction can be simulated for Azure Spot Virtual Machines only: '{machine.name}' is none."
            raise Refusal(409, "OperationNotAllowed", message)
        self.evict(machine)
        return Answer(204)

    def evict(self, machine: Machine) -> None:
        """Its metadata service says so; `world.preempt_seconds` later it is gone, or deallocated."""
        self._announce(machine, "Preempt", self._world.preempt_seconds)
        self._due.put(machine.key, self._world.clock() + self._world.preempt_seconds, lambda: self._evicted(machine))

    def _evicted(self, machine: Machine) -> None:
        if self._vms.by_key.get(machine.key) is not machine:
            return
        machine.events.clear()
        if machine.properties.get("evictionPolicy", "Deallocate") == "Delete":
            self._forget(machine.resource)
        else:
            self._vms.become(machine, "deallocating")
            self.deallocated(machine)

    def confirm(self, machine: Machine, event: str) -> bool:
        """Whoever was told says that it may come at once. False for an event that there is not."""
        found = [each for each in machine.events if each["EventId"] == event and each["EventStatus"] == "Scheduled"]
        for each in found:
            self.confirmed.append((machine.name, each["EventType"]))
            each.update(EventStatus="Started", NotBefore="")
            if machine.key in self._due:
                self._due.put(machine.key, self._world.clock(), lambda: self._evicted(machine))
        return bool(found)

    def announce(self, machine: Machine, kind: str, seconds: float) -> None:
        """Redeploy, Freeze, Reboot or Terminate, in so many seconds; nothing comes of it but for who reads it."""
        self._announce(machine, kind, seconds)

    def _announce(self, machine: Machine, kind: str, seconds: float) -> None:
        at = formatdate(time() + self._world.clock_offset + seconds, usegmt=True)
        machine.incarnation += 1
        machine.events = [{
            "EventId": str(uuid.uuid4()).upper(), "EventType": kind, "ResourceType": "VirtualMachine",
            "Resources": [machine.name], "EventStatus": "Scheduled", "NotBefore": at, "Description": "",
            "EventSource": "Platform", "DurationInSeconds": -1,
        }]  # fmt: skip

    def shut_down(self, machine: Machine) -> None:
        """It turned itself off: its host is kept for it, and billed."""
        if machine.power == "running":
            self._vms.pull_out(machine)
            self._vms.become(machine, "stopped")
