"""Ray Serve: versions that take over under load or fail beside the one that answers, a node that goes, nodes that come and go
with the load, and a head that is started again in the middle."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.ai.conftest import SECONDS, Jobs
from tests.support.cluster import wait_until
from tests.support.load import Load, load

PROGRAM = """\
import asyncio
from fastapi import FastAPI
from ray import serve
from words import WORD

api = FastAPI()

@serve.deployment(ray_actor_options={"num_cpus": 0.5}, max_constructor_retry_count=1, max_ongoing_requests=20,
                  graceful_shutdown_wait_loop_s=0.5)
@serve.ingress(api)
class Model:
    def __init__(self, loads):
        assert loads, "the weights are broken"
        print("loaded", WORD)

    @api.get("/say")
    async def say(self, wait: float = 0.1):
        await asyncio.sleep(wait)
        return WORD

def build(args):
    return Model.bind(args.get("loads", True))
"""

CHAT = """\
applications:
  - name: chat
    route_prefix: /chat
    import_path: program:build
    runtime_env: {working_dir: ./code}
    args: {loads: true}
    deployments:
      - name: Model
        num_replicas: 1
"""
BUSY = """\
  - name: busy
    route_prefix: /busy
    import_path: program:build
    runtime_env: {working_dir: ./code}
    deployments:
      - name: Model
        ray_actor_options: {num_cpus: 1}
        autoscaling_config: {min_replicas: 1, max_replicas: 2, target_ongoing_requests: 4, upscale_delay_s: 0.5,
                             downscale_delay_s: 2, metrics_interval_s: 0.5, look_back_period_s: 2}
"""


class Service:
    def __init__(self, jobs: Jobs) -> None:
        self.jobs, self.cluster = jobs, jobs.cluster
        self.directory = jobs.cluster.directory / "serve"
        (self.directory / "code").mkdir(parents=True)
        (self.directory / "code" / "program.py").write_text(PROGRAM)
        self._words = 0

    def write(self, config: str = CHAT) -> str:
        """Another program, and its config; what it will answer."""
        self._words += 1
        (self.directory / "code" / "words.py").write_text(f'WORD = "word-{self._words}"\n')
        (self.directory / "app.yaml").write_text(config)
        return f'"word-{self._words}"'

    def deploy(self, *options: str, code: int = 0) -> Any:
        return self.cluster.cli(
            "serve", "deploy", str(self.directory / "app.yaml"), *options, code=code, timeout=SECONDS
        )

    def status(self, name: str = "chat") -> dict[str, Any]:
        document = self.cluster.look("/api/v1/serve")
        return next(row for row in document["applications"] if row["name"] == name)

    @property
    def port(self) -> int:
        return self.cluster.look("/api/v1/serve")["http"]["port"]

    def say(self, path: str = "/chat/say") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        return text if answer.status == 200 else f"{answer.status}: {text}"

    def replicas(self, name: str = "chat") -> list[dict[str, Any]]:
        return [r for d in self.status(name)["deployments"] for r in d["replicas"] if r["state"] == "running"]

    def nodes(self, name: str = "chat") -> list[str]:
        return [row["node"] for row in self.replicas(name)]


@pytest.fixture(scope="module")
def service(jobs: Jobs) -> Iterator[Service]:
    service = Service(jobs)
    service.write(CHAT + BUSY)
    yield service
    jobs.cluster.cli("serve", "delete", "--all", timeout=SECONDS)


@pytest.fixture(scope="module")
def all_the_time(service: Service) -> Iterator[Load]:
    """Requests for the second application, while everything else is done."""
    with load(service.port, "/busy/say", clients=2) as seen:
        yield seen


def test_what_a_config_says_is_served_on_nodes_that_come_for_it(service: Service) -> None:
    said = service.deploy().stdout
    assert said == "chat: version 1 answers at /chat\nbusy: version 1 answers at /busy\n"
    assert service.say() == service.say("/busy/say") == '"word-1"'
    status = service.status()
    assert (status["state"], status["live"]) == ("running", 1)
    assert not any(node.startswith("head") for node in service.nodes() + service.nodes("busy"))
    assert "loaded word-1" in service.cluster.cli("serve", "logs", "chat").stdout


def test_another_node_comes_with_the_load(service: Service, all_the_time: Load) -> None:
    with load(service.port, "/busy/say?wait=0.5", clients=12) as many:
        wait_until(lambda: len(set(service.nodes("busy"))) == 2, SECONDS, "a second replica on a node of its own")
    assert many.failures == [] and all_the_time.failures == []


def test_a_new_version_takes_over_under_load_without_a_failed_request(service: Service, all_the_time: Load) -> None:
    old, new = service.say(), service.write()
    with load(service.port, "/chat/say") as seen:
        service.deploy()
        wait_until(lambda: seen.answers[new] > 20, SECONDS, "the new version answers")
    assert seen.failures == [] and seen.answers[old] > 20
    assert seen.answers.keys() == {old, new}
    assert [v["state"] for v in service.status()["versions"]][-2:] == ["former", "live"]


def test_a_broken_version_leaves_the_old_one_and_the_command_says_why(service: Service, all_the_time: Load) -> None:
    old = service.say()
    service.write(CHAT.replace("loads: true", "loads: false"))
    with load(service.port, "/chat/say") as seen:
        failed = service.deploy(code=1).stderr
    live, broken = service.status()["live"], service.status()["newest"]
    assert f"version {broken} of chat failed, version {live} goes on" in failed and "the weights are broken" in failed
    assert seen.failures == [] and seen.answers.keys() == {old}


def test_what_serve_does_not_take_is_said_with_its_place_in_the_file(service: Service) -> None:
    service.write(CHAT.replace("num_replicas: 1", "num_replicas: -1"))
    assert "app.yaml:9:23: num_replicas: Input should be greater than 0" in service.deploy(code=2).stderr


def test_rays_gcs_is_killed_under_load_and_given_the_packages_again(service: Service, all_the_time: Load) -> None:
    cluster, old = service.cluster, service.say()
    before = cluster.head_log(10**7).count("is with Ray")
    with load(service.port, "/chat/say") as seen:
        (gcs,) = [process for process in cluster.processes() if process.name() == "gcs_server"]
        gcs.kill()
        wait_until(lambda: cluster.head_log(10**7).count("is with Ray") > before, SECONDS, "the package is looked at")
    assert seen.failures == [] and seen.answers.keys() == {old} and all_the_time.failures == []


def test_a_rollback_goes_on_when_the_head_is_killed_in_its_middle(service: Service, all_the_time: Load) -> None:
    cluster, live = service.cluster, service.say()
    with load(service.port, "/chat/say") as seen:
        cluster.cli("serve", "rollback", "chat", "-d")
        cluster.kill(cluster.head_pid())
        wait_until(lambda: len(seen.answers) > 1, SECONDS, "the version before answers")
    assert seen.failures == [] and live in seen.answers
    wait_until(lambda: service.status()["leaving"] == [], SECONDS)
    assert [v["of"] < v["version"] for v in service.status()["versions"] if v["state"] == "live"] == [True]


def test_the_node_goes_after_the_load_without_a_failed_request(service: Service, all_the_time: Load) -> None:
    wait_until(lambda: len(service.jobs.roomy_nodes()) == 1, SECONDS, "one node has room for what is left")
    assert all_the_time.failures == [] and len(service.nodes("busy")) == 1


def test_a_node_that_drains_goes_once_its_replicas_answer_elsewhere(service: Service, all_the_time: Load) -> None:
    (node,) = service.nodes()
    with load(service.port, "/chat/say") as seen:
        service.cluster.cli("node", "drain", node, "--deadline", "none", "--wait", timeout=SECONDS)
    assert seen.failures == [] and all_the_time.failures == []
    assert seen.slowest < 10, "no request waited for a replica: the one that left came after the one that replaces it"


def test_the_replicas_of_a_killed_node_come_back_on_another(service: Service) -> None:
    old, (replica,) = service.say(), service.replicas()
    service.jobs.kill_node(replica["ray_node"])
    wait_until(lambda: service.nodes() not in ([], [replica["node"]]), SECONDS, "its replica is elsewhere")
    assert service.say() == old
