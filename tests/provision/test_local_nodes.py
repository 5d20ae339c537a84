"""Local nodes: found again whatever happened to their maker, and ended with everything that came out of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID, CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.local import nodes as local_nodes
from clusterctl_providers.local import processes
from clusterctl_providers.local.provider import LocalProvider

from clusterctl.core.errors import BadRequest, UnknownOutcome
from clusterctl.core.model import Instance, launch_token
from tests.support.cluster import wait_until

UID = str(uuid.uuid4())  # another for each process of tests, as their nodes are found by it on the whole machine
POOL = PoolRequest("cpu", {"resources": {"CPU": 1}})
# prints what it was given, starts a process that leaves the session, and one that forgets its environment
WILD = """
import json, os, subprocess, sys, time
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "instance": os.environ["CLUSTERCTL_INSTANCE"],
                  "sid": os.getsid(0) == os.getpid()}), flush=True)
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True, env={})
print("ready", flush=True)
time.sleep(600)
"""
PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], "
    "start_new_session=True); time.sleep(600)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)

Open = Callable[..., LocalProvider]


@pytest.fixture
def open_local(tmp_path: Path) -> Iterator[Open]:
    def make(code: str = WILD, **settings: Any) -> LocalProvider:
        argv, chosen = [sys.executable, "-S", "-c", code], {"short_dir": str(tmp_path), **settings}
        return LocalProvider(ProviderContext("demo", UID, str(tmp_path / "state"), chosen, agent_argv=argv))

    yield make
    last = make(grace=0.1)
    last.terminate([i.id for i in last.list()[0].instances])
    last.close()


def request(node_id: str = "cpu-1") -> CreateRequest:
    token = launch_token(UID, node_id, 1)
    offer = LocalProvider(ProviderContext("demo", UID, "/nowhere")).offers(POOL)[0]
    tags = {TAG_UID: UID, TAG_CLUSTER: "demo"}
    return CreateRequest(token, node_id, 1, offer, tags, {"join_token": "once", "directory": ""}, POOL)


def create(provider: LocalProvider, node_id: str = "cpu-1") -> Instance:
    (made,) = provider.create([request(node_id)])
    assert isinstance(made, Instance), made
    wait_until(lambda: "ready" in provider.console_log(made.id), what="the agent's first words")
    return made


def state_of(provider: LocalProvider, instance: Instance) -> str:
    states = {i.id: i.state for i in provider.list()[0].instances}
    return states.get(instance.id, "")


def papers(tmp_path: Path) -> Path:
    (node,) = (tmp_path / "state" / "nodes").iterdir()
    return node


def test_a_node_starts_in_a_session_and_directory_of_its_own_with_its_bootstrap(
    open_local: Open, tmp_path: Path
) -> None:
    provider = open_local(short_dir="/tmp")
    made = create(provider)
    said = json.loads(provider.console_log(made.id).splitlines()[0])
    bootstrap = json.loads(Path(said["argv"][1]).read_text())
    assert said["argv"][0] == "--bootstrap" and said["sid"] and said["instance"] == made.id
    assert Path(bootstrap.pop("disk")) == papers(tmp_path), "what is too much for memory goes there"
    assert bootstrap == {"join_token": "once", "directory": said["cwd"]}
    assert len(said["cwd"]) + len("/session_2026-01-31_00-00-00_000000_4194304/sockets/plasma_store") < 107
    assert made.address == "127.0.0.1" and made.state == "running"


def test_files_and_directories_are_private_whatever_the_umask(open_local: Open, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create(open_local())
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path


def test_terminate_ends_what_left_the_session_or_forgot_its_environment(open_local: Open, tmp_path: Path) -> None:
    provider = open_local()
    made = create(provider)
    agent = psutil.Process(int((papers(tmp_path) / "pid").read_text()))
    family = [agent, *agent.children(recursive=True)]
    assert len(family) == 3
    open_local().terminate([made.id])
    wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), what="all gone")
    wait_until(
        lambda: not list(tmp_path.glob("cctl-*")) and not list((tmp_path / "state" / "nodes").iterdir()),
        what="nothing is left on disk",
    )


def test_a_stubborn_agent_is_killed_after_its_grace_and_nobody_waits_for_it(open_local: Open) -> None:
    provider = open_local(STUBBORN, grace=0.6)
    made = create(provider)
    provider.terminate([made.id])
    assert state_of(provider, made) == "stopping"
    assert state_of(open_local(), made) == "running", "to a process that does not end it, it still runs"
    provider.terminate([made.id])
    provider.close()
    assert state_of(provider, made) == ""


def test_an_agent_that_dies_is_terminated_at_once_and_its_leftovers_go_with_its_remains(
    open_local: Open, tmp_path: Path
) -> None:
    provider = open_local()
    made = create(provider)
    agent = psutil.Process(int((papers(tmp_path) / "pid").read_text()))
    marked = [p for p in agent.children(recursive=True) if p.environ().get("CLUSTERCTL_INSTANCE")]
    agent.send_signal(signal.SIGKILL)
    wait_until(lambda: state_of(provider, made) == "terminated", what="the death noticed")
    provider.terminate([made.id])
    wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in marked), what="leftovers gone")
    wait_until(
        lambda: provider.list()[0].instances == (), what="its remains gone, which are removed after its processes"
    )
    for orphan in psutil.process_iter(["cwd"]):  # the one without the mark was orphaned before anyone looked
        if orphan.info["cwd"] and orphan.info["cwd"].startswith(str(tmp_path)):
            orphan.kill()


def test_a_node_whose_directory_was_removed_is_still_listed_and_ended(open_local: Open, tmp_path: Path) -> None:
    provider = open_local()
    made = create(provider)
    for path in sorted((tmp_path / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (instance,) = open_local().list()[0].instances
    assert (instance.id, instance.uid, instance.node_id) == (made.id, UID, "")
    assert provider.find_clusters() and ("demo", UID, 1) in provider.find_clusters()
    open_local().terminate([made.id])
    wait_until(lambda: not open_local().list()[0].instances, what="it gone")
    wait_until(lambda: not list(tmp_path.glob("cctl-*")), what="its directory gone")


@pytest.mark.parametrize("left", [("instance.json",), ("instance.json", "bootstrap.json")])
def test_a_node_that_was_written_and_never_started_is_started_by_the_same_token(
    open_local: Open, tmp_path: Path, left: tuple[str, ...]
) -> None:
    provider = open_local()
    made = create(provider)
    node = papers(tmp_path)
    kept = {name: (node / name).read_text() for name in left}
    provider.terminate([made.id])
    provider.close()
    (tmp_path / "state" / "ended" / node.name).unlink()
    node.mkdir()
    for name, text in kept.items():
        (node / name).write_text(text)
    assert state_of(provider, made) == "pending"
    assert create(provider).id == made.id and state_of(provider, made) == "running"


def test_an_agent_whose_pid_was_never_noted_is_not_started_twice(open_local: Open, tmp_path: Path) -> None:
    provider = open_local()
    made = create(provider)
    pid = (papers(tmp_path) / "pid").read_text()
    (papers(tmp_path) / "pid").unlink()
    assert state_of(open_local(), made) == "running"
    assert create(open_local()).id == made.id
    assert (papers(tmp_path) / "pid").read_text() == pid


def test_a_process_id_that_is_another_programs_by_now_is_not_taken_for_the_agent(
    open_local: Open, tmp_path: Path
) -> None:
    provider = open_local()
    made = create(provider)
    (papers(tmp_path) / "pid").write_text(str(os.getpid()))
    assert state_of(provider, made) == "terminated"
    provider.terminate([made.id])
    assert psutil.Process(os.getpid()).is_running(), "we are still here"


def test_an_agent_ended_in_the_instant_of_its_start_is_not_lost(open_local: Open, tmp_path: Path) -> None:
    """Until the kernel has laid out its environment a new program bears no mark."""
    provider = open_local(PARENT)
    for number in range(25):
        (made,) = provider.create([request(f"cpu-{number}")])
        assert isinstance(made, Instance) and made.state == "running"
        provider.terminate([made.id])
    provider.close()
    assert provider.list()[0].instances == () and not list(tmp_path.glob("cctl-*"))
    assert not any(UID.replace("-", "") in instance for instance in processes.marked_processes())


def test_a_program_is_known_by_its_mark_from_the_instant_of_its_start() -> None:
    """Whenever it is looked at: before, while or after the kernel lays out its environment, here a long one."""
    environment = {**os.environ, **{f"FILLER_{i}": "x" * 1000 for i in range(60)}, processes.MARK: "this"}
    for _ in range(500):
        program = subprocess.Popen(["/bin/sleep", "600"], env=environment)
        try:
            assert processes.belongs_to(program.pid, "this")
            assert not processes.belongs_to(program.pid, "that")
        finally:
            program.kill()
            program.wait()


def test_a_short_directory_that_somebody_else_laid_out_is_refused(open_local: Open, tmp_path: Path) -> None:
    provider = open_local()
    trap = provider._short_dir(provider.instance_id(request().token))
    trap.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (answer,) = provider.create([request()])
    assert not isinstance(answer, Instance) and "not a private directory" in str(answer)
    provider.terminate([provider.instance_id(request().token)])
    assert (tmp_path / "elsewhere").is_dir()
    trap.unlink()


def test_a_missing_agent_bundle_is_a_bad_request_with_the_fix(tmp_path: Path) -> None:
    provider = LocalProvider(ProviderContext("demo", UID, str(tmp_path), agent_bundle="/nowhere/agent.pyz"))
    (answer,) = provider.create([request()])
    assert isinstance(answer, BadRequest) and "reinstall" in str(answer)
    assert provider.list()[0].instances == ()


def test_a_full_disk_leaves_the_outcome_open(open_local: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_nodes, "write_private", full)
    (answer,) = open_local().create([request()])
    assert not isinstance(answer, Instance | BadRequest | UnknownOutcome) and "No space left" in str(answer)


@pytest.mark.parametrize(
    ("spec", "role", "expected"),
    [
        ({"resources": {"CPU": 2, "TPU": 1}}, "worker", {"CPU": 2, "TPU": 1}),
        ({"resources": {"CPU": 1}, "gpu": {"count": 1, "name": "L4"}}, "worker", {"CPU": 1, "GPU": 1}),
        ({}, "worker", {"CPU": psutil.cpu_count()}),
        ({}, "head", {"CPU": psutil.cpu_count(), "memory": psutil.virtual_memory().total}),
    ],
)
def test_a_pool_is_offered_as_much_of_this_machine_as_it_says(
    tmp_path: Path, spec: dict[str, Any], role: str, expected: dict[str, float]
) -> None:
    provider = LocalProvider(ProviderContext("demo", UID, str(tmp_path)))
    (offer,) = provider.offers(PoolRequest("p", spec, role))
    assert offer.resources.to_dict() == expected
    assert (offer.key, offer.price, offer.boot_seconds) == ("p/local/on-demand/local", 0.0, 1.0)
    assert offer.gpu_type == spec.get("gpu", {}).get("name", "")
