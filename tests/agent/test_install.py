"""Ray's environment on a node that has none: fetched from the head, checked, made once, finished by whoever comes next."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime import wire
from clusterctl_runtime.engine.wheelhouse import Wheel, Wheelhouse

from tests.agent.conftest import PIECE, HeadDouble
from tests.support.wheel_index import kept_wheels, wanted

SMALL = ("uv", "pip", "six", "attrs", "idna")


class WheelHead(HeadDouble):
    """Sends wheels as the head does. `asked` are (file, offset); `hold` is a file that stops half-way until `released`;
    `damaged` are files that arrive with a wrong byte, so many times."""

    def __init__(self, house: Wheelhouse, wheels: list[Wheel]) -> None:
        super().__init__()
        self.house, self.wheels = house, {wheel.sha256: wheel for wheel in wheels}
        self.asked: list[tuple[str, int]] = []
        self.hold, self.held, self.released = "", threading.Event(), threading.Event()
        self.damaged: dict[str, int] = {}

    async def _send_blobs(self, reader: Any, writer: Any) -> None:
        import asyncio

        message, _ = await wire.read_frame(reader)
        wheel, offset = self.wheels[message["digest"]], message["offset"]
        self.asked.append((wheel.file, offset))
        data = bytearray(self.house.path(wheel.sha256).read_bytes())
        if self.damaged.get(wheel.file, 0):
            self.damaged[wheel.file] -= 1
            data[-1] ^= 1
        for start in range(offset, len(data), PIECE):
            if self.hold and self.hold == wheel.file and start > len(data) // 2 and not self.released.is_set():
                self.held.set()
                await asyncio.to_thread(self.released.wait, 30)
            header = {"t": "blob", "digest": wheel.sha256, "size": len(data)}
            writer.write(wire.encode(header, bytes(data[start : start + PIECE])))
            await writer.drain()
        await reader.read()

    def asked_for(self, file: str) -> list[int]:
        return [offset for name, offset in self.asked if name == file]


@pytest.fixture
def small() -> tuple[Wheelhouse, list[Wheel]]:
    """A few real wheels, uv among them: an environment that is made in no time."""
    house, wheels = kept_wheels(wanted())
    return house, [wheel for wheel in wheels if wheel.file.partition("-")[0] in SMALL]


@pytest.fixture
def head(small: tuple[Wheelhouse, list[Wheel]]) -> Iterator[WheelHead]:
    double = WheelHead(*small)
    double.start()
    yield double
    double.released.set()
    double.close()


def environment(wheels: list[Wheel]) -> dict[str, Any]:
    return {
        "digest": hashlib.sha256("".join(wheel.sha256 for wheel in wheels).encode()).hexdigest(),
        "ray": "2.60.0",
        "extras": ["default"],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "wheels": [{"file": wheel.file, "sha256": wheel.sha256, "size": wheel.size} for wheel in wheels],
    }


def config(wheels: list[Wheel]) -> dict[str, Any]:
    return {"role": "head", "environment": environment(wheels), "token": "0" * 32, "instance_id": "head-1@1"}


def states(head: WheelHead) -> list[dict[str, Any]]:
    return [message for message in head.said if message["t"] == "engine"]


def until_over(head: WheelHead) -> dict[str, Any]:
    """The state after the installation. Ray itself is not among these few wheels: its start then fails."""
    return head.until(lambda: [m for m in states(head) if m["state"] in ("failed", "ready")])[-1]


def installed(agent: Any, wheels: list[Wheel]) -> Path:
    return agent.directory / "engines" / environment(wheels)["digest"]


def test_an_installation_that_a_kill_broke_off_is_finished_by_the_next_agent(head, start_agent, small) -> None:
    wheels = small[1]
    head.hold = next(wheel.file for wheel in wheels if wheel.file.startswith("uv-"))
    first = start_agent()
    head.until_joined()
    head.send("engine_start", config=config(wheels))
    head.until(lambda: head.held.is_set() and states(head)[-1].get("detail", "").startswith("installing Ray 2.60.0 ("))
    half_built = installed(first, wheels).with_name(f".{environment(wheels)['digest']}.1.part")
    (half_built / "env").mkdir(parents=True)
    first.kill()
    head.released.set()
    credential = json.loads((first.directory / "credential").read_text())["credential"]
    second = start_agent(join_token=credential)
    head.until_joined(times=2)
    head.send("engine_start", config=config(wheels))
    said = until_over(head)
    assert said["python"] == str(installed(second, wheels) / "bin" / "python")
    assert head.asked_for(head.hold)[1] > 0, "what had arrived was not fetched again"
    others = [name for name, _ in head.asked if name != head.hold]
    assert len(others) == len(set(others)), "and whole wheels neither"
    subprocess.run([said["python"], "-c", "import six, attr, idna, pip"], check=True)
    assert not half_built.exists()
    assert not list(installed(second, wheels).parent.glob(".*.part"))


def test_a_wheel_that_arrives_damaged_is_thrown_away_and_fetched_again(head, start_agent, small) -> None:
    wheels = small[1]
    victim = next(wheel.file for wheel in wheels if wheel.file.startswith("six-"))
    head.damaged[victim] = 1
    agent = start_agent()
    head.until_joined()
    head.send("engine_start", config=config(wheels))
    until_over(head)
    assert head.asked_for(victim) == [0, 0]
    assert (installed(agent, wheels) / "engine.json").exists()


def test_a_wheel_that_is_never_right_is_named_and_nothing_is_installed(head, start_agent, small) -> None:
    wheels = small[1]
    victim = next(wheel.file for wheel in wheels if wheel.file.startswith("six-"))
    head.damaged[victim] = 100
    agent = start_agent()
    head.until_joined()
    head.send("engine_start", config=config(wheels))
    said = until_over(head)
    assert said["code"] == "install_failed"
    assert victim in said["detail"] and "damaged" in said["detail"]
    assert not installed(agent, wheels).exists()


def test_an_installation_that_is_no_longer_wanted_is_given_up(head, start_agent, small) -> None:
    wheels = small[1]
    head.hold = next(wheel.file for wheel in wheels if wheel.file.startswith("uv-"))
    agent = start_agent()
    head.until_joined()
    head.send("engine_start", config=config(wheels))
    head.until(head.held.is_set)
    head.send("engine_stop")
    head.until(lambda: states(head)[-1]["state"] == "stopped")
    head.send("stop", reason="done")
    assert agent.wait(60) == 0
