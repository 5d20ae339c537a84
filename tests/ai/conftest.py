"""One cluster that starts with no worker, for all questions of this folder: Ray and its AI libraries on nodes of this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.ai_engine import EXTRAS, PACKAGES, RAY, kept_engines
from tests.support.cluster import LocalCluster, wait_until

SECONDS = 400.0  # that any of it may take: many times what it takes on an idle machine
STORE = 80 * 2**20  # bytes of each node's object store: soon full
SPEC = f"""\
cluster: ai
provider: local
engine:
  ray:
    version: "{RAY}"
    extras: {json.dumps(EXTRAS)}
    packages: {json.dumps(PACKAGES)}
    object_store: {STORE}
    env: {{RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S: "0.5", RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY: "1"}}
env: {{WORKERS: "2", DEVICE: cpu, OMP_NUM_THREADS: "1"}}
pools:
  - {{name: cpu, min: 0, max: 3, resources: {{CPU: 2}}, idle_timeout: 20s, labels: {{team: vision}}}}
  - {{name: gpu, min: 0, max: 1, resources: {{CPU: 1, GPU: 1, FAST: 2}}, idle_timeout: 20s, labels: {{disk: nvme}}}}
  - name: spot
    min: 0
    max: 3
    idle_timeout: 20s
    network: shared
    provider: {{fake: {{boot: local, types: {{small: {{CPU: 2, SPOT: 1, price: 0.1}}}}}}}}
"""


class Jobs:
    """What tests submit, and what it leaves in `shared`, which all nodes see."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.started: list[str] = []
        self._tries = 0
        self.begin()

    def begin(self) -> None:
        """Before each test, and before its second try: directories in which nothing is yet."""
        self._tries += 1
        self.shared = self.cluster.directory / "shared" / str(self._tries)
        self.shared.mkdir(parents=True)

    def write(self, name: str, text: str = "", starter: str = "") -> Path:
        """A directory with job.py; `starter`: beside it, as starter.py."""
        work = self.cluster.directory / "work" / str(self._tries) / name
        work.mkdir(parents=True)
        (work / "job.py").write_text(text)
        if starter:
            job = files("clusterctl_templates") / "starters" / "jobs" / f"{starter}.py"
            (work / "starter.py").write_text(job.read_text())
        return work

    def start(self, work: Path, *options: str, program: str = "job.py") -> str:
        """Submits it; its id."""
        self.started.append(self.cluster.submit(*self._options(work, *options), str(work / program)))
        return self.started[-1]

    def run(self, work: Path, *options: str, program: str = "job.py") -> str:
        """Submits it and waits for its end; what it printed."""
        submit = ("submit", *self._options(work, *options), str(work / program))
        return self.cluster.cli(*submit, timeout=SECONDS).stdout

    def _options(self, work: Path, *options: str) -> tuple[str, ...]:
        return ("--working-dir", str(work), "--env", f"STORAGE={self.shared}", *options)

    def wait(self, job: str) -> None:
        """Until it has succeeded."""
        self.cluster.wait_job(job, "succeeded", SECONDS)

    def result(self, work: Path, *options: str) -> Any:
        """Runs it; what its last line in JSON says."""
        lines = [line for line in self.run(work, *options).splitlines() if line.startswith("{")]
        return json.loads(lines[-1])

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Lines of JSON that a job has written into `shared/name` so far."""
        path = self.shared / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_note(self, name: str, count: int = 1, job: str = "") -> dict[str, Any]:
        """The `count`th of them; fails as soon as `job` has ended without it."""

        def look() -> list[dict[str, Any]]:
            found = self.notes(name)[count - 1 :]
            if not found and job:
                state = self.cluster.job(job)["state"]
                assert state not in ("failed", "cancelled", "succeeded"), self.cluster.cli("logs", job).stdout[-3000:]
            return found

        return wait_until(look, SECONDS, f"note {count} in {name}")[0]

    def wait_for_epoch(self, first: int, epoch: int, job: str) -> list[dict[str, Any]]:
        """What the workers noted of that epoch, in the attempt that began with `first`."""

        def look() -> list[dict[str, Any]]:
            state = self.cluster.job(job)["state"]
            assert state == "running", self.cluster.cli("logs", job).stdout[-3000:]
            found = [note for note in self.notes("epochs") if (note["first"], note["epoch"]) == (first, epoch)]
            return found if len(found) == 2 else []

        return wait_until(look, SECONDS, f"epoch {epoch} of the training from epoch {first} on")

    # ------------------------------------------------------------ nodes

    def roomy_nodes(self) -> list[dict[str, Any]]:
        """Those with two CPUs that are ready."""
        return [*self.cluster.ready_nodes("cpu"), *self.cluster.ready_nodes("spot")]

    def launches(self, pool: str) -> list[dict[str, Any]]:
        """The events of all nodes that were bought for that pool."""
        events = self.cluster.json("events", "--limit", "1000")["events"]
        return [e for e in events if e["code"] == "launch" and e["subject"].startswith(f"{pool}-")]

    def announce(self, ray_node_id: str, seconds: float) -> None:
        """As its cloud does: what the agent finds where it asks its machine's metadata service."""
        agent, _ = self._agent_and_raylet(ray_node_id)
        bootstrap = Path(agent.cmdline()[agent.cmdline().index("--bootstrap") + 1])
        notice = {"action": "terminate", "time": time.time() + seconds, "from": 0}
        (Path(json.loads(bootstrap.read_text())["directory"]) / "metadata.json").write_text(json.dumps(notice))

    def kill_node(self, ray_node_id: str) -> None:
        for process in self._agent_and_raylet(ray_node_id):
            process.kill()

    def _agent_and_raylet(self, ray_node_id: str) -> tuple[psutil.Process, psutil.Process]:
        found = [p for p in self.cluster.processes() if any(ray_node_id in part for part in p.cmdline())]
        (raylet,) = [process for process in found if process.name() == "raylet"]
        start = raylet.parent()
        agent = start.parent() if start else None
        assert agent and "agent" in " ".join(agent.cmdline()), "Ray's processes are children of the agent"
        return agent, raylet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * SECONDS))


@pytest.fixture(autouse=True)
def nothing_goes_on(jobs: Jobs) -> Iterator[None]:
    """A test that failed leaves no job that the next one, or its own second try, would wait for."""
    jobs.begin()
    yield
    while jobs.started:
        jobs.cluster.cli("job", "cancel", jobs.started.pop(), code=None)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    engines = kept_engines()
    directory = tmp_path_factory.mktemp("ai")
    cluster = LocalCluster(directory, SPEC, name="ai")
    cluster.home.mkdir()
    (cluster.home / "engines").symlink_to(engines)
    try:
        cluster.up()
        assert cluster.ready_nodes() == [], "it starts with no worker"
        yield Jobs(cluster)
        cluster.down()
        assert cluster.processes() == []
    finally:
        cluster.clean_up()
