"""Clusters of 16 containers, up and down, beside the same containers by hand: `docker run` in turn, and `docker rm`."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.rows import Row, row, timed
from tests.docker.conftest import DockerCluster
from tests.docker.world import SLEEPER
from tests.support.docker_engine import LABEL, base_image, remove_labelled, running_engine

NODES = 16
SPEC = """\
cluster: sixteen
provider: {docker: {image: "IMAGE"}}
engine: none
head: {resources: {CPU: 1, memory: 512MiB}}
pools: [{name: cpu, min: MIN, max: MIN, resources: {CPU: 1, memory: 256MiB}}]
"""


def run() -> list[Row]:
    with running_engine() as engine, tempfile.TemporaryDirectory() as directory:
        image = base_image(engine)
        up, down, again = _ours(engine, image, Path(directory))
        run_one, run_eight, remove = _by_hand(engine, image)
    goal = "near the engine's own time"
    return [
        row(f"Docker: up of {NODES} nodes, agents joined", up, run_one, "docker run, in turn", "s", goal),
        row(f"Docker: up of {NODES} nodes, agents joined", up, run_eight, "docker run, 8 at once", "s", goal),
        row("Docker: up with nothing to do", again, None, "", "s", "<= 1 s"),
        row(f"Docker: down of {NODES} nodes", down, remove, "docker rm -f, 8 at once", "s", goal),
    ]


def _ours(engine: Any, image: str, directory: Path) -> tuple[float, float, float]:
    cluster = DockerCluster(directory, SPEC.replace("IMAGE", image).replace("MIN", str(NODES - 1)), engine)
    cluster.name = "sixteen"
    cluster.env["DOCKER_HOST"] = engine.host
    try:
        up = timed(cluster.up)
        again = timed(cluster.up)
        return up, timed(cluster.down), again
    finally:
        cluster.clean_up()


def _by_hand(engine: Any, image: str) -> tuple[float, float, float]:
    """The same limits, a network of its own, and a Python that does nothing."""
    client = engine.client
    network = client.networks.create(f"{LABEL}-bench", labels={LABEL: "bench"})

    def start(number: int) -> None:
        client.containers.run(
            image, entrypoint=SLEEPER, detach=True, init=True, network=network.name, labels={LABEL: "bench"},
            mem_limit=256 * 2**20, nano_cpus=10**9, name=f"{LABEL}-bench-{number}",
        )  # fmt: skip

    def remove(container: Any) -> None:
        container.remove(force=True, v=True)

    try:
        with ThreadPoolExecutor(8) as pool:
            in_turn = timed(lambda: [start(n) for n in range(NODES)])
            found = client.containers.list(filters={"label": f"{LABEL}=bench"})
            removed = timed(lambda: list(pool.map(remove, found)))
            at_once = timed(lambda: list(pool.map(start, range(NODES))))
        return in_turn, at_once, removed
    finally:
        remove_labelled(client, f"{LABEL}=bench")
