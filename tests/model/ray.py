"""Ray's side as the head meets it: raylets that are resized at once or refuse, actors that hold GPUs, tasks of Ray's own that
take what is free, answers that are late or lost. Only what Ray does itself is modelled; the client that asks is the real one."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

from clusterctl_runtime.engine.client import EngineClient, EngineRefused, EngineUnsure

ENOUGH = 1e-6


@dataclass
class Raylet:
    """`devices` are what is used of each GPU; `used` and `gpus` what tasks of Ray's own have."""

    name: str
    node_id: str
    generation: int
    cpus: float
    total: float
    devices: list[float]
    used: float = 0.0
    draining: bool = False
    gpus: list[tuple[int, float]] = field(default_factory=list)
    holds: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def give(self, count: float) -> list[tuple[int, float]]:
        """Places on devices for `count` GPUs, fullest device first; [] when it has not as many."""
        each = min(1.0, count)
        order = sorted(range(len(self.devices)), key=lambda i: (-self.devices[i], i))
        found = [i for i in order if self.devices[i] + each <= 1 + ENOUGH][: max(1, round(count))]
        if len(found) < max(1, round(count)):
            return []
        for i in found:
            self.devices[i] += each
        return [(i, each) for i in found]

    def take_back(self, places: list[tuple[int, float]]) -> None:
        for i, each in places:
            self.devices[i] -= each


class Ray:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.raylets: dict[str, Raylet] = {}
        self.troubled = True  # calls may be refused, late or unanswered

    def start(self, node_id: str, generation: int, cpus: float, gpus: int) -> Raylet:
        raylet = Raylet(f"{node_id}-{generation}-raylet", node_id, generation, cpus, cpus, [0.0] * gpus)
        self.raylets[raylet.name] = raylet
        return raylet

    def work(self) -> None:
        """One of Ray's own tasks starts, or ends."""
        if not self.raylets:
            return
        raylet = self.chance.choice(sorted(self.raylets.values(), key=lambda r: r.name))
        what = self.chance.random()
        if what < 0.5 and raylet.draining:
            return  # it takes nothing new
        if what < 0.3 and raylet.total - raylet.used >= 1:
            raylet.used += 1
        elif what < 0.5 and raylet.used:
            raylet.used -= 1
        elif what < 0.65 and (places := raylet.give(self.chance.choice([0.5, 1.0]))):
            raylet.gpus += places
        elif raylet.gpus:
            raylet.take_back([raylet.gpus.pop()])

    def idle(self) -> None:
        for raylet in self.raylets.values():
            raylet.used = 0.0
            raylet.take_back(raylet.gpus)
            raylet.gpus = []

    def state(self) -> dict[str, Any]:
        nodes = []
        for raylet in self.raylets.values():
            gpus, taken = float(len(raylet.devices)), sum(raylet.devices)
            busy = bool(raylet.used or taken)
            nodes.append(
                {
                    "id": raylet.name,
                    "instance_id": f"{raylet.node_id}@{raylet.generation}",
                    "status": "DRAINING" if raylet.draining else "RUNNING" if busy else "IDLE",
                    "idle_ms": 0 if busy else 1,
                    "total": {"CPU": raylet.total, "GPU": gpus},
                    "available": {"CPU": raylet.total - raylet.used, "GPU": round(gpus - taken, 4)},
                    "activity": [],
                }
            )
        return {"t": "state", "version": "model", "nodes": nodes, "tasks": [], "gangs": [], "requests": []}

    # ------------------------------------------------------------ what the helper is asked

    async def answer(self, do: str, arguments: dict[str, Any]) -> dict[str, Any]:
        await self._pass()
        if self.troubled and self.chance.random() < 0.08:
            raise EngineRefused(f"{do}: not now")
        reply = getattr(self, f"_{do}")(json.loads(json.dumps(arguments)))
        await self._pass()
        if self.troubled and self.chance.random() < 0.08:
            raise EngineUnsure(f"{do}: no answer")
        return reply

    async def _pass(self) -> None:
        for _ in range(self.chance.choice([0, 1, 1, 3, 8, 20])):
            await asyncio.sleep(0)

    def _raylet(self, arguments: dict[str, Any]) -> Raylet:
        raylet = self.raylets.get(arguments["node"])
        if raylet is None:
            raise EngineRefused("there is no such node")
        return raylet

    def _resize(self, arguments: dict[str, Any]) -> dict[str, Any]:
        raylet = self._raylet(arguments)
        raylet.total = max(raylet.used, float(arguments["resources"]["CPU"]))
        return {"totals": {"CPU": raylet.total}}

    def _hold_gpus(self, arguments: dict[str, Any]) -> dict[str, Any]:
        raylet, hold = self._raylet(arguments), arguments["hold"]
        if hold not in raylet.holds:
            places = raylet.give(arguments["count"])
            if not places:
                raise EngineRefused("Ray uses them")
            raylet.holds[hold] = places
        return {"gpu_ids": [i for i, _ in raylet.holds[hold]]}

    def _release(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for raylet in self.raylets.values():
            raylet.take_back(raylet.holds.pop(arguments["hold"], []))
        return {"released": True}

    def _holds(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "holds": [
                {
                    "hold": hold,
                    "node": raylet.name,
                    "gpu_ids": [i for i, _ in places],
                    "gpus": sum(p for _, p in places),
                }
                for raylet in self.raylets.values()
                for hold, places in raylet.holds.items()
            ]
        }

    def _drain(self, arguments: dict[str, Any]) -> dict[str, Any]:
        raylet = self.raylets.get(arguments["node"])
        if raylet is None or arguments["if_idle"]:
            return {"accepted": raylet is None or (not raylet.used and not raylet.gpus and not raylet.holds)}
        raylet.draining = True
        return {"accepted": True}


class Client(EngineClient):
    """The real client, whose questions go to the model instead of a helper process."""

    def __init__(self, ray: Ray, on_state: Any) -> None:
        super().__init__("python3", "", "", on_state)
        self._ray = ray

    async def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        return await self._ray.answer(do, arguments)

    def tell(self) -> None:
        self._take(self._ray.state())
