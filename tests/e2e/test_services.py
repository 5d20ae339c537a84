"""Services on a cluster that starts with no worker: under load, what happens to them is not noticed by who asks."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.support.cluster import LocalCluster, wait_until
from tests.support.web_program import Load

SPEC = """\
cluster: demo
provider: local
engine: none
pools:
  - {name: cpu, min: 0, max: 5, resources: {CPU: 1}, idle_timeout: 10m}
lifetime: {after_last_job: 1s}
"""
PROGRAM = """
import http.server, os, sys, time
started = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/ready") and os.environ["KIND"] == "never":
            return self.say(503, "not yet")
        if self.path == "/slow":
            time.sleep(0.1)
        self.say(200, os.environ["KIND"])
    def say(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *a): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
if os.environ["KIND"] == "breaks":
    print("it lacks its model", flush=True)
    sys.exit(3)
print("listens as", os.environ["CLUSTERCTL_SERVICE"], flush=True)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Serving(LocalCluster):
    """With one service, `web`."""

    token = ""
    _turn = itertools.count()

    def run(self, kind: str, *more: str, code: int = 0) -> Any:
        options = ("--name", "web", "--health", "/ready", "--env", f"KIND={kind}", *more)
        return self.cli("service", "run", *options, "web.py", code=code)

    def serve(self, kind: str) -> int:
        """The version that serves, and is of that kind: a new one where that is not so, as at the second try of a test."""
        if (self.head_dir / "ended.json").exists():
            self.up()
        self.token = self.cli("service", "token", "web").stdout.strip()
        version = self.web()["version"]  # 0 once it was stopped
        if not version or {self.ask("/"), self.ask("/slow")} != {kind}:
            self.run(kind, "--replicas", "2")
            version = self.web()["version"]
        self.settled(version)
        return version

    def web(self) -> dict[str, Any]:
        return self.look("/api/v1/services/web")

    def members(self, state: str) -> list[dict[str, Any]]:
        return [member for member in self.web()["members"] if member["state"] == state]

    def ask(self, path: str = "", token: str | None = None, port: int = 0) -> str:
        path = path or ("/" if next(self._turn) % 2 else "/slow")
        url = f"http://127.0.0.1:{port or self.port}/services/web{path}"
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.read().decode()

    def settled(self, version: int, replicas: int = 2) -> dict[str, Any]:
        """The service, once that version serves and nothing else is left of it."""

        def is_settled() -> dict[str, Any] | None:
            web = self.web()
            members = [(member["version"], member["state"]) for member in web["members"]]
            return web if web["version"] == version and members == [(version, "well")] * replicas else None

        found = wait_until(is_settled, what=f"version {version} serves alone")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = Serving(tmp_path_factory.mktemp("services"), SPEC)
    try:
        made.up()
        (made.directory / "web.py").write_text(PROGRAM)
        made.first = made.run("one", "--replicas", "2")  # type: ignore[attr-defined]
        made.port = made.settled(1)["entry_port"]  # type: ignore[attr-defined]
        made.token = made.cli("service", "token", "web").stdout.strip()
        yield made
    finally:
        made.clean_up()


@pytest.fixture
def one(cluster: Serving) -> int:
    """The version of that kind which serves."""
    return cluster.serve("one")


@pytest.fixture
def two(cluster: Serving) -> int:
    return cluster.serve("two")


@pytest.fixture
def load(cluster: Serving) -> Iterator[Load]:
    """Requests all the time, of which some take a while."""
    made = Load(cluster.ask)
    try:
        wait_until(lambda: len(made.answers) > 20, what="requests are answered")
        yield made
    finally:
        made.end()


def goes_on(load: Load) -> None:
    """Some more requests are answered, and none ever failed."""
    at = len(load.answers)
    wait_until(lambda: len(load.answers) > at + 20, what="requests are answered")
    load.end()
    assert not load.failures


def test_a_service_brings_its_nodes_and_is_reached_by_who_has_its_token_only(cluster: Serving):
    said = cluster.first  # type: ignore[attr-defined]
    assert "launching local in local" in said.stderr and "web-v1-1: well on cpu-" in said.stderr
    assert f"http://127.0.0.1:{cluster.port}/services/web/" in said.stdout
    assert all(len(line) <= 80 for line in said.stdout.splitlines())
    assert cluster.ask("/") == "one"
    for token in ("", "svc-wrong", cluster.token[:-1]):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            cluster.ask("/", token=token)
    (entry,) = [p for p in cluster.processes() if "clusterctl_runtime.entry" in p.cmdline()]
    listens = {c.laddr.ip for c in entry.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listens == {"127.0.0.1"}  # for others nothing listens, unless the spec says so
    assert "service web, version 1" in cluster.cli("jobs").stdout
    assert "service    web, version 1" in cluster.cli("job", "show", "web-v1-1").stdout
    assert "[web-v1-1] listens as web" in cluster.cli("service", "logs", "web").stdout
    refused = cluster.run("one", "--port", "8000", code=2)
    assert "share one machine" in refused.stderr


def test_a_new_version_takes_over_without_a_failed_request(cluster: Serving, one: int, load: Load):
    former = {member["job"] for member in cluster.members("well")}
    done = cluster.run("two")
    two = cluster.web()["version"]
    assert two > one and re.search(rf"^version    {two} \(before it: (\d+, )*{one}\)$", done.stdout, re.M)
    cluster.settled(two)
    goes_on(load)
    assert load.answers[0] == "one" and set(load.answers[-10:]) == {"two"}
    assert {cluster.job(job)["state"] for job in former} == {"cancelled"}


def test_a_version_that_ends_or_is_never_well_is_given_up_and_the_one_before_stays(
    cluster: Serving, two: int, load: Load
):
    ended = cluster.run("breaks", code=1)
    assert "it lacks its model" in ended.stderr
    assert "exited with code 3. Version " in ended.stderr and " serves as before." in ended.stderr
    never = cluster.run("never", "--timeout", "1s", code=1)
    assert "was not well 1 s after its start: GET /ready was answered with 503" in never.stderr
    given_up = re.search(r"version (\d+): ", cluster.cli("service", "status", "web").stdout, re.M)
    assert given_up is not None and int(given_up[1]) > two
    cluster.settled(two)
    goes_on(load)
    assert set(load.answers) == {"two"}


def test_rollback_goes_to_the_version_before_as_long_as_there_is_one(cluster: Serving, two: int, load: Load):
    served = [one["version"] for one in cluster.web()["versions"] if one["served"]]
    assert served.pop() == two
    for before in reversed(served):
        cluster.cli("service", "rollback", "web")
        cluster.settled(before)
    goes_on(load)
    assert set(load.answers[-10:]) == {"one"}
    assert "no version before" in cluster.cli("service", "rollback", "web", code=5).stderr


def test_a_node_that_drains_goes_once_another_replica_is_well(cluster: Serving, one: int, load: Load):
    node = cluster.members("well")[0]["node"]
    cluster.cli("node", "drain", node, "--wait")
    web = cluster.settled(one)
    assert node not in {member["node"] for member in web["members"]}
    goes_on(load)


def test_when_the_head_is_killed_nobody_notices_and_the_next_one_goes_on(cluster: Serving, one: int, load: Load):
    old, before = cluster.head_pid(), {member["job"] for member in cluster.members("well")}
    cluster.kill(old)
    wait_until(lambda: cluster.head_pid() != old and cluster.cli("status", code=None).returncode == 0)
    web = cluster.settled(one)
    assert {member["job"] for member in web["members"]} == before
    wait_until(lambda: cluster.web()["entry_port"], what="the next entry listens")
    assert cluster.web()["entry_port"] == cluster.port
    cluster.cli("service", "scale", "web", "3")
    cluster.settled(one, 3)
    cluster.cli("service", "scale", "web", "2")
    cluster.settled(one)
    goes_on(load)


def test_a_replica_whose_node_is_killed_is_replaced_and_others_answer_meanwhile(cluster: Serving, one: int, load: Load):
    gone = cluster.members("well")[0]["node"]
    instance = cluster.look(f"/api/v1/nodes/{gone}")["instance_id"]
    for process in cluster.processes():
        if process.environ().get("CLUSTERCTL_INSTANCE") == instance:
            process.kill()
    wait_until(lambda: gone not in {m["node"] for m in cluster.members("well")}, what="it is noticed")
    web = cluster.settled(one)
    assert gone not in {member["node"] for member in web["members"]}
    at = len(load.answers)
    wait_until(lambda: len(load.answers) > at + 20)
    load.end()
    assert len(load.failures) <= 3  # what was open there, one for each of those who ask


def test_others_reach_services_where_the_spec_says_so_with_tls_and_the_token(cluster: Serving, one: int):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster.spec.write_text(f"{SPEC}services: {{listen: '127.0.0.1:{port}'}}\n")
    cluster.up()
    assert wait_until(lambda: cluster.web()["public_port"]) == port
    told = cluster.json("service", "token", "web")
    context = ssl.create_default_context(cadata=told["ca"])

    def get(path: str, token: str) -> str:
        plain = socket.create_connection(("127.0.0.1", port), 60)
        with plain, context.wrap_socket(plain, server_hostname=told["server_name"]) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            return sock.makefile("rb").read().decode()

    assert get("/services/web/", "").startswith("HTTP/1.1 401 ")
    assert get("/services/web/", told["token"]).endswith("\r\n\r\none")
    renewed = cluster.json("service", "token", "web", "--new")["token"]
    wait_until(
        lambda: get("/services/web/", told["token"]).startswith("HTTP/1.1 401 "), what="the old token is refused"
    )
    assert get("/services/web/", renewed).endswith("one")


def test_a_service_that_is_stopped_takes_and_runs_nothing_and_is_no_more_work_for_the_cluster(
    cluster: Serving, one: int
):
    assert (cluster.head_dir / "head.json").exists()  # it counted as work until now, or its cluster had ended itself
    assert "stopped" in cluster.cli("service", "stop", "web").stdout
    with pytest.raises(OSError):  # 401, or nobody is there any more
        cluster.ask("/")
    wait_until(
        lambda: (cluster.head_dir / "ended.json").exists() and not cluster.processes(), what="it has ended itself"
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", cluster.port), 5)
