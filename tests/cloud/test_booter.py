"""A new cloud brings a face and nothing else: Acme's is all in this file, and its instances are real machines."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.cloud.booter import Booter, Step
from tests.cloud.machines import NETWORK, MachineSpec
from tests.cloud.metadata import Answer, Facts
from tests.cloud.world import Timetable, World
from tests.support.cluster import wait_until


@dataclass
class Instance:
    id: str
    address: str
    script: str
    state: str = "starting"


def acme_metadata(method: str, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
    """One header, and facts by their path: nearly Google's way."""
    if headers.get("X-Acme") != "1":
        return Answer(403)
    text = facts.get(path.strip("/"), "")
    return Answer(200, text) if text else Answer(404)


class AcmeFace:
    name = "acme"
    url = "http://127.0.0.1:1"
    steps: Mapping[str, Step] = {"up": "boot", "asleep": "halt", "gone": "destroy"}

    def __init__(self) -> None:
        self.world = World()
        self.dialect = acme_metadata
        self.instances: dict[str, Instance] = {}
        self._next = Timetable()

    def launch(self, instance: Instance) -> None:
        self.instances[instance.id] = instance
        self._next.put(instance.id, self.world.clock() + self.world.boot_seconds, "up")

    def change(self, instance_id: str, state: str) -> None:
        instance = self.instances[instance_id]
        instance.state = state
        for listener in self.world.listeners:
            listener(state, instance)

    def listen(self, address: str) -> str:
        return f"http://{address}:1"

    def machine_of(self, instance: Instance, clock: int) -> MachineSpec:
        facts = {"id": instance.id, "zone": "north"}
        return MachineSpec(instance.id, instance.address, instance.script.encode(), facts=facts, clock=clock)

    def disk_link(self, disk_id: str) -> str:
        return f"by-id/acme-{disk_id}"

    def powered_off(self, instance_id: str) -> None:
        self.change(instance_id, "off")

    def advance(self) -> None:
        for instance_id, state in self._next.take(self.world.clock()):
            self.change(instance_id, state)


@pytest.fixture
def acme() -> Iterator[tuple[AcmeFace, Booter]]:
    face = AcmeFace()
    with Booter(face) as booter:
        yield face, booter
    assert face.url == "http://127.0.0.1:1" and face.world.consoles is None and face.world.listeners == []
    assert not [thread for thread in threading.enumerate() if thread.name == "acme-machines"]


SCRIPT = """#!/bin/bash
ASK='import sys, urllib.request as r
print(r.urlopen(r.Request("http://169.254.169.254/" + sys.argv[1], headers={"X-Acme": "1"})).read().decode())'
say() { echo "acme: $1" >/dev/console; }
ask() { python3 -c "$ASK" "$1"; }
say "I am $(ask id) in $(ask zone)"
for n in $(seq 100); do [ ! -e /dev/disk/by-id/acme-d1 ] || break; sleep 0.1; done
say "disk $(ls /dev/disk/by-id)"
poweroff
"""


def test_an_instance_runs_its_user_data_knows_itself_and_its_disk_and_turns_itself_off(
    acme: tuple[AcmeFace, Booter],
) -> None:
    face, booter = acme
    assert face.url.startswith(f"http://{NETWORK}.0.1:")
    face.launch(Instance("acme-1", f"{NETWORK}.9.4", SCRIPT))
    wait_until(lambda: booter.machines.ids(), what="the machine")
    face.world.disks.attach("acme-1", "d1", 1)
    wait_until(lambda: face.instances["acme-1"].state == "off", what="the end that the machine chose")
    assert face.world.consoles is not None
    said = face.world.consoles("acme-1")
    assert "acme: I am acme-1 in north" in said and "acme: disk acme-d1" in said
    assert booter.machines.ids() == []


def test_an_instance_that_is_taken_away_takes_its_machine_with_it(acme: tuple[AcmeFace, Booter]) -> None:
    face, booter = acme
    face.launch(Instance("acme-2", f"{NETWORK}.9.5", "#!/bin/sh\necho acme: up >/dev/console\n"))
    wait_until(lambda: "acme: up" in booter.machines.console("acme-2"), what="the machine's first words")
    face.change("acme-2", "gone")
    wait_until(lambda: booter.machines.ids() == [], what="the end of the machine")
