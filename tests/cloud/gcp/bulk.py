"""bulkInsert: many like instances by one call, as many as there is room for but not fewer than the least."""

from __future__ import annotations

import copy
import re
import uuid
from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.instances import Instances
from tests.cloud.gcp.launch import Launch, Launches
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import Resource
from tests.cloud.gcp.world import PROJECT, Failure, already_exists, invalid, required

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


class Bulk:
    def __init__(self, compute: Compute, instances: Instances, launches: Launches) -> None:
        self._instances, self._launches = instances, launches
        self._world, self._store, self._operations = compute.world, compute.store, compute.operations

    def handlers(self) -> dict[str, Handler]:
        return {"compute.instances.bulkInsert": self._bulk_insert}

    def _bulk_insert(self, call: Call) -> dict[str, Any]:
        """The parent operation; each instance has one of its own, of the same operationGroupId."""
        body, zone = call.body, call.path["zone"]
        if "count" not in body:
            raise required("resource.count")
        if "instanceProperties" not in body and "sourceInstanceTemplate" not in body:
            raise required("resource.instanceProperties")
        if "instanceProperties" not in body:
            raise invalid(
                "resource.sourceInstanceTemplate",
                body["sourceInstanceTemplate"],
                "The stand-in takes instanceProperties.",
            )
        count, least = int(body["count"]), int(body.get("minCount", body["count"]))
        if not 1 <= count <= 1000:
            raise invalid("resource.count", str(count), "The count must be between 1 and 1000.")
        if not 1 <= least <= count:
            raise invalid("resource.minCount", str(least), "The minimal count must be between 1 and the count.")
        where = f"projects/{PROJECT}/zones/{zone}"
        names = self._names(body, where, count)
        properties = {k: v for k, v in body["instanceProperties"].items() if k != "description"}
        model = self._launches.read(
            call, f"{where}/instances/{names[0]}", properties, "resource.instanceProperties", bare=True
        )
        group = str(uuid.uuid4())
        try:
            made = self._instances.capacity.reserve(model, least, count)
            refusal = self._instances.capacity.no_room(model) if made < count else None
        except Failure as failure:
            made, refusal = 0, failure
        children = [
            self._instances.launch(
                call, self._one(call, model, f"{where}/instances/{name}", body), "insert", group,
                refusal if number >= made else None,
            )[0]
            for number, name in enumerate(names)
        ]  # fmt: skip
        return self._parent(call, where, group, children, least)

    def _parent(
        self,
        call: Call,
        where: str,
        group: str,
        children: list[Instance],
        least: int,
    ) -> Resource:
        """It only says that too few were made: why, the operations of the single ones tell."""
        count = len(children)
        location = "/".join(where.split("/")[2:])
        status: Resource = {
            "targetVmCount": count,
            "createdVmCount": 0,
            "failedToCreateVmCount": 0,
            "status": "CREATING",
        }

        def finish() -> None:
            alive = sum(child.key in self._instances.by_key for child in children)
            status.update(createdVmCount=alive, failedToCreateVmCount=count - alive, status="DONE")
            if alive < least:
                self._roll_back(children)
                status.update(createdVmCount=0, failedToCreateVmCount=count)
                message = f"Requested minimum count of {least} VMs could not be created."
                raise Failure("VM_MIN_COUNT_NOT_REACHED", message, 503, "SERVICE UNAVAILABLE")

        world = self._world
        failed = all(child.failure for child in children)
        seconds = world.operation_seconds if failed else max(world.operation_seconds, world.boot_seconds)
        own = Call(call.world, call.principal, call.method, call.path, call.query, call.body)
        answer = self._operations.begin(own, "bulkInsert", where, finish, seconds, group=group)
        stored = self._store.get(f"{where}/operations/{answer['name']}")
        for operation in (stored, answer):
            operation["instancesBulkInsertOperationMetadata"] = {"perLocationStatus": {location: status}}
        return copy.deepcopy(answer)

    def _roll_back(self, children: list[Instance]) -> None:
        for child in children:
            if self._instances.by_key.get(child.key) is child:
                self._instances.delete(None, child, user="system")

    def _names(self, body: Resource, where: str, count: int) -> list[str]:
        own, pattern = body.get("perInstanceProperties", {}), body.get("namePattern")
        if bool(own) == bool(pattern):
            raise invalid(
                "resource.namePattern",
                pattern or "",
                "Exactly one of namePattern and perInstanceProperties must be set.",
            )
        if own:
            if len(own) != count:
                raise invalid(
                    "resource.perInstanceProperties", str(len(own)), f"It must have as many entries as count ({count})."
                )
            for name in own:
                if not _NAME.fullmatch(name):
                    raise invalid("resource.perInstanceProperties", name, f"Must be a match of regex '{_NAME.pattern}'")
                if f"{where}/instances/{name}" in self._instances.by_key:
                    raise already_exists(f"{where}/instances/{name}")
            return list(own)
        match = re.fullmatch(r"([a-z][-a-z0-9]*?)(#{1,18})([-a-z0-9]*)", pattern or "")
        if not match:
            raise invalid("resource.namePattern", pattern, "It must have one run of # characters.")
        before, digits, after = match.groups()
        taken = re.compile(rf"{re.escape(before)}(\d{{{len(digits)}}}){re.escape(after)}")
        known = [m.group(1) for i in self._store.collection(f"{where}/instances") if (m := taken.fullmatch(i["name"]))]
        first = max(map(int, known), default=0) + 1
        return [f"{before}{number:0{len(digits)}d}{after}" for number in range(first, first + count)]

    def _one(self, call: Call, model: Launch, key: str, body: Resource) -> Launch:
        own = body.get("perInstanceProperties", {}).get(key.rpartition("/")[2], {})
        made = copy.deepcopy(model.body)
        made["name"] = own.get("name") or key.rpartition("/")[2]
        if own.get("hostname"):
            made["hostname"] = own["hostname"]
        launch = Launch(key, model.zone, model.type, made, model.accelerators, reservation=model.reservation)
        return self._launches.with_disks(call, launch)
