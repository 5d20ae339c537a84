"""What the head does about Serve, on a real disk and across restarts, with a stand-in for Serve's REST interface that does as
Serve was measured to do."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from clusterctl_runtime.head.serve.control import SETTLE_SECONDS, ServeControl, package_uri
from clusterctl_runtime.head.serve.ray_serve import NO_SERVE, faults_of
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.errors import ClusterctlError, NotFound, Refused, UsageError
from clusterctl.core.serving import Version

T = TypeVar("T")
ARCHIVE = b"an archive"
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
INVALID = """1 validation error for ServeDeploySchema
applications.{index}.deployments.0.num_replicas
  Input should be greater than 0 [type=greater_than, input_value=-1, input_type=int]
    For further information visit https://errors.pydantic.dev/2.13/v/greater_than"""


class Serve:
    """Ray with Serve: applications by name, as its REST interface tells them. Each runs at once, unless `status` says
    otherwise."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.packages: set[str] = set()
        self.status: dict[str, str] = {}
        self.session, self.puts, self.ended = "s1", 0, 0
        self.answer: tuple[int, str] | None = None  # instead of its own

    def helper(self) -> Serve:
        return self

    def dashboard(self) -> str:
        return "http://ray"

    async def bring_package(self, uri: str, path: Path) -> bool:
        assert path.read_bytes() == ARCHIVE
        self.packages.add(uri)
        return True

    async def drop_package(self, uri: str) -> None:
        self.packages.discard(uri)

    async def http(self, method: str, url: str, body: Any, seconds: float) -> tuple[int, str]:
        if self.answer is not None and (method == "PUT" or self.answer[0] != 400):
            return self.answer
        if method == "PUT":
            self.puts += 1
            self._put(body["applications"])
        elif method == "DELETE":
            self.ended += 1
            self.rows.clear()
        return 200, json.dumps({"applications": self.rows})

    def _put(self, applications: list[dict[str, Any]]) -> None:
        for one in applications:
            directory = (one.get("runtime_env") or {}).get("working_dir")
            assert directory is None or directory in self.packages, "a package that Ray has not"
        imperative = {name: row for name, row in self.rows.items() if row["source"] != "declarative"}
        self.rows = imperative | {one["name"]: self._row(one) for one in applications}

    def _row(self, config: dict[str, Any]) -> dict[str, Any]:
        return {
            "status": self.status.get(config["name"], "RUNNING"),
            "message": "its own words",
            "route_prefix": config["route_prefix"],
            "source": "declarative",
            "deployed_app_config": config,
            "deployments": {},
        }

    def routes(self) -> dict[str, str]:
        return {name: row["route_prefix"] for name, row in self.rows.items()}


class Post:
    def __init__(self, directory: Path) -> None:
        self.directory, self.serve, self.now = directory, Serve(), 1000.0
        self.store = Store(directory / "store.db")
        self.blobs = BlobStore(directory / "blobs")
        self.blobs.path(DIGEST).write_bytes(ARCHIVE)
        self.events = EventLog(self.store)
        self.start()

    def start(self) -> None:
        """A head's new process."""
        options = {"proxy_location": "HeadOnly", "http_options": {"host": "127.0.0.1", "port": 8000}}
        self.control = ServeControl(
            self.directory, lambda: self.serve, self.blobs, self.events, lambda: options, lambda: self.now
        )

    def ask(self, what: Awaitable[T]) -> T:
        async def wait() -> T:
            return await what

        return asyncio.run(wait())

    def deploy(self, word: str, name: str = "chat", route: str = "/chat", **options: Any) -> None:
        version = Version(0, {"import_path": word}, route, DIGEST, 0, self.now, self.now + 60)
        self.ask(self.control.deploy({name: version}, options))

    def look(self, times: int = 1) -> bool:
        moving = True
        for _ in range(times):
            moving = self.ask(self.control.look())
        return moving

    def settle(self) -> None:
        for _ in range(10):
            self.now += SETTLE_SECONDS
            if not self.look():
                return
        raise AssertionError("it does not settle")

    def states(self, name: str = "chat") -> list[str]:
        return [version.state for version in self.control.application(name).versions]

    def live(self, *words: str) -> None:
        for word in words:
            self.deploy(word)
            self.settle()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    made.store.close()


def test_a_new_version_runs_beside_the_old_one_takes_its_route_and_then_the_old_one_goes(post: Post) -> None:
    post.live("a")
    post.deploy("b")
    post.look()
    assert post.serve.routes() == {"chat~1": "/chat", "chat~2": "/chat~2"}
    post.look()
    assert post.serve.routes() == {"chat~1": "/chat~1", "chat~2": "/chat"}
    post.look(3)
    assert "chat~1" in post.serve.routes(), "requests may still be under way to it"
    post.now += SETTLE_SECONDS
    post.look()
    assert post.serve.routes() == {"chat~2": "/chat"}
    assert post.states() == ["former", "live"] and post.control.working == 1


@pytest.mark.parametrize("looks", range(6))
def test_a_head_that_dies_at_any_step_goes_on_where_it_was(post: Post, looks: int) -> None:
    post.live("a")
    post.deploy("b")
    for _ in range(looks):
        post.now += SETTLE_SECONDS / 2
        post.look()
    post.start()
    post.settle()
    assert post.serve.routes() == {"chat~2": "/chat"} and post.states() == ["former", "live"]


def test_nothing_is_said_to_serve_where_it_has_what_is_wanted(post: Post) -> None:
    post.live("a")
    before = post.serve.puts
    post.start()
    assert not post.look(3) and post.serve.puts == before


@pytest.mark.parametrize("session", ["the same one", "another"])
def test_a_serve_that_lost_everything_is_told_again_with_its_packages(post: Post, session: str) -> None:
    post.serve.session = "the same one"
    post.live("a")
    post.serve.rows, post.serve.packages, post.serve.session = {}, set(), session
    post.control.ray_is_ready()
    post.look()
    assert post.serve.routes() == {"chat~1": "/chat"} and post.serve.packages == {package_uri(DIGEST)}


def test_a_gcs_that_was_started_again_is_given_its_packages_again(post: Post) -> None:
    post.live("a")
    post.serve.packages, before = set(), post.serve.puts
    post.control.ray_is_ready()
    post.look()
    assert post.serve.packages == {package_uri(DIGEST)} and post.serve.puts == before


def test_what_others_gave_to_serve_is_sent_along_and_left_alone(post: Post) -> None:
    theirs = {"name": "theirs", "route_prefix": "/theirs", "import_path": "x:y"}
    post.serve.rows["theirs"] = post.serve._row(theirs)
    post.serve.rows["run"] = {**post.serve._row({**theirs, "name": "run"}), "source": "imperative"}
    post.live("a")
    assert post.serve.routes().keys() == {"theirs", "run", "chat~1"}
    post.ask(post.control.delete("chat"))
    post.settle()
    assert post.serve.routes().keys() == {"theirs", "run"} and post.serve.ended == 0


def test_the_last_application_takes_serve_and_its_package_with_it(post: Post) -> None:
    post.live("a")
    post.ask(post.control.delete("chat"))
    post.settle()
    assert (post.serve.rows, post.serve.packages, post.serve.ended) == ({}, set(), 1)
    assert post.control.records.options is None, "the next one may have other options"
    with pytest.raises(NotFound, match="no application 'chat'"):
        post.control.application("chat")


def test_what_serve_does_not_take_is_the_fault_of_the_version_that_it_names(post: Post) -> None:
    post.live("a")
    post.deploy("good", "good", "/good")
    post.deploy("bad", "bad", "/bad")
    post.serve.answer = (400, INVALID.format(index=list(post.control.records.applications).index("bad")))
    post.look()
    post.serve.answer = None
    post.settle()
    assert post.states("bad") == ["failed"] and post.states("good") == ["live"] and post.states() == ["live"]
    (version,) = post.control.application("bad").versions
    assert version.faults == (("deployments.0.num_replicas", "Input should be greater than 0"),)
    assert post.serve.routes().keys() == {"chat~1", "good~1"}


def test_a_ray_without_serve_fails_the_version_and_says_what_to_write(post: Post) -> None:
    post.deploy("a")
    post.serve.answer = (501, "Serve dependencies are not installed.")
    post.look()
    assert post.states() == ["failed"] and post.control.application("chat").versions[0].detail == NO_SERVE
    assert post.control.working == 0, "nothing of it keeps a cluster from ending itself"
    post.ask(post.control.delete("chat"))
    post.look()
    assert post.control.records.applications == {} and post.control.records.options is None


def test_a_serve_that_does_not_answer_changes_nothing(post: Post) -> None:
    post.live("a")
    post.deploy("b")
    post.serve.answer = (503, "The GCS may be down")
    with pytest.raises(ClusterctlError, match="503: The GCS may be down"):
        post.look()
    assert post.states() == ["live", "rolling"]


def test_an_option_that_serve_takes_only_at_its_start_is_refused_later(post: Post) -> None:
    post.deploy("a", http_options={"port": 9000})
    assert post.control.records.options == {
        "proxy_location": "HeadOnly", "http_options": {"host": "127.0.0.1", "port": 9000}
    }  # fmt: skip
    post.deploy("b", http_options={"port": 9000})
    with pytest.raises(Refused, match="http_options cannot be changed while Serve runs"):
        post.deploy("c", http_options={"port": 9001})


def test_two_applications_do_not_get_one_route_and_a_missing_package_is_told(post: Post) -> None:
    post.live("a")
    with pytest.raises(UsageError, match="both want the route '/chat'"):
        post.deploy("b", "other")
    version = Version(0, {"import_path": "a"}, "/new", "0" * 64, 0, 0.0, 60.0)
    with pytest.raises(NotFound, match="no blob 000"):
        post.ask(post.control.deploy({"new": version}, {}))
    assert list(post.control.records.applications) == ["chat"]


def test_packages_stay_as_blobs_for_every_version_that_one_could_go_back_to(post: Post) -> None:
    post.live("a", "b")
    assert post.control.records.packages() == {DIGEST}


def test_a_disk_that_takes_nothing_leaves_all_as_it_was(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.live("a")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clusterctl_runtime.head.serve.records.write_private", full)
    with pytest.raises(ClusterctlError, match=r"No space left on device.*nothing was changed"):
        post.deploy("b")
    assert post.states() == ["live"]


def test_the_words_of_serves_schema_are_read() -> None:
    assert faults_of(INVALID.format(index=3)) == [
        ("applications.3.deployments.0.num_replicas", "Input should be greater than 0")
    ]
    assert faults_of("RayTaskError: something else") == []
