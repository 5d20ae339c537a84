"""Instances of the pretended Compute Engine: what becomes of an accepted one, and what they are asked for.

A launch is accepted at once and may come to nothing later: the instance is seen PROVISIONING for a moment, and is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cloud.gcp.capacity import Capacity
from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.disks import Disks
from tests.cloud.gcp.facts import ZONES
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.launch import Launch, Launches
from tests.cloud.gcp.lists import aggregated, list_of, scopes_in
from tests.cloud.gcp.networks import Networks
from tests.cloud.gcp.operations import RETRY_SECONDS, NotYet, key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import Resource, key_of_link
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, World, already_exists, not_found, not_ready
from tests.cloud.world import Timetable

COSTING = (
    "PENDING",
    "PROVISIONING",
    "STAGING",
    "RUNNING",
    "STOPPING",
    "SUSPENDING",
    "SUSPENDED",
    "TERMINATED",
    "REPAIRING",
)


class Instances:
    def __init__(
        self, compute: Compute, launches: Launches, disks: Disks, networks: Networks, capacity: Capacity
    ) -> None:
        self._compute, self._launches, self._disks, self._networks = compute, launches, disks, networks
        self._world: World = compute.world
        self._store, self._operations, self.capacity = compute.store, compute.operations, capacity
        self.by_key: dict[str, Instance] = {}
        self.next = Timetable()  # key -> what becomes of it
        self.device_names: dict[str, str] = {}  # id of a disk -> as its machine sees it
        compute.clocks.append(self.advance)

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.instances.insert": self._insert,
            "compute.instances.get": lambda call: dict(self.named(call).body),
            "compute.instances.list": self._list,
            "compute.instances.aggregatedList": self._aggregated,
            "compute.instances.delete": self._delete,
            "compute.instances.getSerialPortOutput": self._console,
        }

    # ------------------------------------------------------------ states

    def become(self, instance: Instance, status: str) -> None:
        instance.body["status"] = status
        self.tell(status, instance)

    def tell(self, status: str, instance: Instance) -> None:
        """Whoever gives machines to instances: DEPROVISIONING where nothing of it is to stay, whatever the API shows."""
        for listener in list(self._world.listeners):
            listener(status, instance)

    def later(self, instance: Instance, seconds: float, step: Callable[[], None]) -> None:
        """Instead of whatever was to become of it."""
        self.next.put(instance.key, self._world.clock() + seconds, step)

    def advance(self) -> None:
        while due := self.next.take(self._world.clock()):  # one step may be followed by the next at once
            for key, step in due:
                try:
                    step()
                except NotYet:
                    self.next.put(key, self._world.clock() + RETRY_SECONDS, step)

    def running(self, instance: Instance) -> None:
        instance.body["lastStartTimestamp"] = self._store.now()
        self.become(instance, "RUNNING")
        self._plug_in(instance)
        if seconds := int(instance.body["scheduling"].get("maxRunDuration", {}).get("seconds", 0)):
            at = self._world.clock() + seconds
            self.next.put(f"{instance.key} ends", at, lambda: self.time_is_up(instance))

    def time_is_up(self, instance: Instance) -> None:
        """Replaced by what stops instances too."""
        self.delete(None, instance, user="system")

    def _plug_in(self, instance: Instance) -> None:
        """Its machine sees the disks that it does not boot from."""
        if self._world.disks is None:
            return
        for disk in instance.body["disks"]:
            if not disk["boot"] and "source" in disk:
                self.plug_in(instance, disk)

    def plug_in(self, instance: Instance, disk: Resource) -> None:
        number = self.disk_id(disk)
        self.device_names[number] = disk["deviceName"]
        self._world.disks.attach(instance.id, number, int(disk["diskSizeGb"]))

    def disk_id(self, disk: Resource) -> str:
        """Of an attached disk."""
        return str(self._store.get(key_of_link(disk["source"]))["id"])

    def pull_out(self, instance: Instance, disks: list[Resource] | None = None) -> None:
        """Its machine loses disks (all but the boot disk); raises NotYet while that is under way."""
        if self._world.disks is None:
            return
        for disk in instance.body["disks"] if disks is None else disks:
            attached = not disk["boot"] and "source" in disk and self._store.find(key_of_link(disk["source"]))
            if attached and not self._world.disks.release(self.disk_id(disk), True):
                raise NotYet

    def vanish(self, instance: Instance) -> None:
        """Nothing of it stays but the disks that are to outlive it."""
        self.pull_out(instance)
        self.capacity.give_back(instance)
        for disk in instance.body["disks"]:
            if "source" not in disk:
                continue
            key = key_of_link(disk["source"])
            self._disks.release(key, instance.key)
            if disk["autoDelete"]:
                self._disks.forget(key)
        for interface in instance.body["networkInterfaces"]:
            self._networks.free_address(interface, instance.key)
        self._store.remove(instance.key)
        self.by_key.pop(instance.key, None)
        self.next.put(f"{instance.key} ends", float("inf"))
        self.tell("DEPROVISIONING", instance)

    # ------------------------------------------------------------ launches

    def launch(
        self,
        call: Call | None,
        launch: Launch,
        kind: str = "insert",
        group: str = "",
        refusal: Failure | None = None,
        user: str = "",
    ) -> tuple[Instance, Resource]:
        """(the instance, its operation). It comes to nothing for `refusal`."""
        world = self._world
        instance = self._add(launch, holds=refusal is None)
        failure = refusal or self._settle(instance, launch)
        if world.stillborn and not failure:
            failure = world.stillborn(instance.name)
        instance.failure = failure or (call.failure if call else None)

        def finish() -> None:
            if failure:
                raise failure

        if failure or (call and call.failure):
            seconds = world.operation_seconds
        else:
            seconds = max(world.operation_seconds, world.boot_seconds)
            self._provision(instance)
        return instance, self._operations.begin(
            call, kind, launch.key, finish, seconds, undo=lambda: self._undone(instance), user=user, group=group
        )

    def _add(self, launch: Launch, holds: bool) -> Instance:
        body = self._store.add(launch.key, "instance", launch.body)
        body["status"] = "PROVISIONING"
        instance = Instance(launch.key, body, self._world.clock(), holds, launch.reservation)
        self.by_key[launch.key] = instance
        return instance

    def _provision(self, instance: Instance) -> None:
        half = self._world.boot_seconds / 2
        instance.body["status"] = "PROVISIONING"
        self.later(instance, half, lambda: self.staged(instance, half))

    def _settle(self, instance: Instance, launch: Launch) -> Failure | None:
        """Disks and addresses, where that can fail."""
        try:
            for number, wanted in enumerate(launch.disks):
                if not wanted:
                    continue
                self._disks.hold(wanted, instance.key)
                instance.body["disks"][number].setdefault("source", self._store.get(wanted)["selfLink"])
            for interface in instance.body["networkInterfaces"]:
                self._networks.give_address(interface, instance.key)
        except Failure as failure:
            self.capacity.give_back(instance)
            return failure
        return None

    def give_public(self, interface: Resource) -> None:
        """A public address for an access config that lost its own."""
        self._networks.give_public(interface)

    def staged(self, instance: Instance, seconds: float) -> None:
        self.become(instance, "STAGING")
        if seconds:
            self.later(instance, seconds, lambda: self.running(instance))
        else:
            self.running(instance)

    def _undone(self, instance: Instance) -> None:
        if instance.key in self.by_key and self.by_key[instance.key] is instance:
            for disk in instance.body["disks"]:
                disk["autoDelete"] = disk["autoDelete"] or "initializeParams" in disk
            self.vanish(instance)

    # ------------------------------------------------------------ methods

    def named(self, call: Call) -> Instance:
        key = key_of_call(call, "instances", "resource" if "resource" in call.path else "instance")
        found = self.by_key.get(key) or self._by_number(key)
        if found is None:
            raise not_found(key)
        return found

    def _by_number(self, key: str) -> Instance | None:
        number = key.rpartition("/")[2]
        return next((i for i in self.by_key.values() if i.id == number), None) if number.isdigit() else None

    def _insert(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/zones/{call.path['zone']}/instances/{call.body.get('name', '')}"
        if key in self.by_key:
            raise already_exists(key)
        launch = self._launches.read(call, key, call.body, "resource")
        self._launches.with_disks(call, launch)
        if launch.waits:
            return self._wait_for_capacity(call, launch)
        return self.launch(call, launch, refusal=self.capacity.refusal(launch))[1]

    def _wait_for_capacity(self, call: Call, launch: Launch) -> Resource:
        """A flex-start instance is PENDING until there is room for it, or its patience has run out."""
        instance = self._add(launch, holds=False)
        instance.body["status"] = "PENDING"
        failure = self._settle(instance, launch)
        until = self._world.clock() + launch.waits

        def finish() -> None:
            if self.by_key.get(instance.key) is not instance:
                raise Failure("RESOURCE_NOT_FOUND", f"The resource '{instance.key}' was not found", 404, "NOT FOUND")
            refusal = failure or self.capacity.refusal(launch)
            if refusal and not failure and self._world.clock() < until:
                raise NotYet
            if refusal:
                raise refusal
            instance.holds, instance.reservation = True, launch.reservation
            self._provision(instance)

        return self._operations.begin(call, "insert", launch.key, finish, undo=lambda: self._undone(instance))

    def _shown(self, body: Resource) -> bool:
        if not self._world.visible_after:
            return True
        found = self.by_key.get(key_of_link(body["selfLink"]))
        return found is not None and self._world.clock() >= found.since + self._world.visible_after

    def _list(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/zones/{call.path['zone']}/instances"
        return list_of(call, "instance", key, [item for item in self._store.collection(key) if self._shown(item)])

    def _aggregated(self, call: Call) -> dict[str, Any]:
        scopes = scopes_in(self._store, PROJECT, "instances", self._shown)
        return aggregated(call, "instance", "instances", scopes, [f"zones/{zone}" for zone in ZONES])

    def _delete(self, call: Call) -> dict[str, Any]:
        instance = self.named(call)
        if instance.body.get("deletionProtection"):
            message = f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion. {instance.key}'."
            raise Refusal(400, "invalid", message)
        return self.delete(call, instance)

    def delete(self, call: Call | None, instance: Instance, kind: str = "delete", user: str = "") -> Resource:
        if instance.status != "TERMINATED":
            instance.body["status"] = "STOPPING"
        self.next.put(instance.key, float("inf"))  # nothing else becomes of it
        self.tell("DEPROVISIONING", instance)
        seconds = max(self._world.operation_seconds, self._world.end_seconds)
        return self._operations.begin(
            call, kind, instance.key, lambda: self._deleted(instance), seconds, user=user, target_id=instance.id
        )

    def _deleted(self, instance: Instance) -> None:
        if self.by_key.get(instance.key) is instance:
            self.vanish(instance)

    def _console(self, call: Call) -> dict[str, Any]:
        """It is kept while the machine runs, and no longer."""
        instance = self.named(call)
        if instance.status not in ("RUNNING", "STOPPING", "REPAIRING", "SUSPENDING"):
            raise not_ready(instance.key)
        if instance.status in ("TERMINATED", "SUSPENDED"):
            raise not_ready(instance.key)  # there is none but of a machine that runs
        text = self._world.consoles(instance.id) if self._world.consoles else ""
        start = int(call.query.get("start", 0))
        if start < 0:
            start = max(0, len(text) + start)  # that many of the last
        return {
            "kind": "compute#serialPortOutput", "selfLink": f"{instance.body['selfLink']}/serialPort",
            "contents": text[start:], "start": str(start), "next": str(len(text)),
        }  # fmt: skip
