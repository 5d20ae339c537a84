"""Agents as the head meets them: they run what they are sent, tell of it, and lose what was under way when a line breaks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.wire import TaskReport, TaskSpec

GRACE_TURNS = 3


@dataclass
class Agent:
    """`tasks` run now (with the turns that those have left which are to end); `told` are ends that are not acknowledged."""

    node_id: str
    generation: int
    raylet: str
    chance: random.Random
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    dying: dict[str, int] = field(default_factory=dict)
    ends: dict[str, TaskReport] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    session: Any = None
    dead: bool = False
    ending: bool = False

    def step(self, fleet: Fleet) -> None:
        """Reads a few messages, lets time pass for what is being ended."""
        for _ in range(min(len(self.inbox), self.chance.choice([1, 1, 2, 9]))):
            self._obey(self.inbox.pop(0), fleet)
        for task in [task for task, left in self.dying.items() if left <= 0]:
            self._end(task, fleet, exit_code=143, stopped="killed", lost=self.ending)
        for task in self.dying:
            self.dying[task] -= 1

    def _obey(self, message: dict[str, Any], fleet: Fleet) -> None:
        if message["t"] == "run":
            for item in message["tasks"]:
                spec = TaskSpec.from_json(item)
                if spec.task in self.ever:
                    continue
                if self.ending:
                    self._tell(TaskReport(spec.task, "exited", lost=True), fleet)
                    continue
                self.ever.add(spec.task)
                self.tasks[spec.task] = spec
                self._tell(TaskReport(spec.task, "running", gpu_ids=spec.gpu_ids or [], ran=0.0), fleet)
        elif message["t"] == "kill":
            for task in message["tasks"]:
                if task in self.tasks:
                    self.dying.setdefault(task, self.chance.randint(0, GRACE_TURNS))
                elif task in self.ends:
                    self._tell(self.ends[task], fleet)
                elif task not in self.ever:
                    self._tell(TaskReport(task, "exited", lost=True), fleet)
        elif message["t"] == "ack":
            for task in message["tasks"]:
                self.ends.pop(task, None)

    def finish(self, fleet: Fleet, code: int) -> None:
        """One of its programs ends."""
        running = sorted(set(self.tasks) - set(self.dying))
        if running:
            self._end(self.chance.choice(running), fleet, exit_code=code)

    def end(self, fleet: Fleet) -> None:
        """It is told to end by somebody else than the head: `systemctl stop`, a reboot."""
        self.ending = True
        if self.session:
            fleet.received(self.session, {"t": "ending", "reason": "asked to end"}, b"")
        for task in list(self.tasks):
            self.dying.setdefault(task, self.chance.randint(0, GRACE_TURNS))

    def _end(self, task: str, fleet: Fleet, **how: Any) -> None:
        del self.tasks[task]
        self.dying.pop(task, None)
        self.ends[task] = TaskReport(task, "exited", **how)
        self._tell(self.ends[task], fleet)

    def _tell(self, report: TaskReport, fleet: Fleet) -> None:
        if self.session:
            fleet.received(self.session, {"t": "tasks", "items": [report.to_json()]}, b"")

    # ------------------------------------------------------------ its connection

    async def join(self, fleet: Fleet) -> None:
        self.session, self.inbox = Line(self), []
        reports = [TaskReport(task, "running", ran=0.0).to_json() for task in self.tasks]
        reports += [report.to_json() for report in self.ends.values()]
        engine = {"t": "engine", "state": "ready", "ray_node_id": self.raylet}
        hello = {"t": "hello", "facts": {}, "address": "127.0.0.1", "tasks": reports, "engine": engine, "prepared": {}}
        await fleet.joined(self.session, hello)

    def part(self, fleet: Fleet) -> None:
        session, self.session, self.inbox = self.session, None, []
        if session:
            fleet.left(session)


class Line:
    """What the head has of a connection."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.node_id, self.generation = agent.node_id, agent.generation

    def send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        if self.agent.session is self:
            self.agent.inbox.append(message)

    def close(self) -> None:
        if self.agent.session is self:
            self.agent.session, self.agent.inbox = None, []
