"""Secrets stay where they belong: in files of mode 0600 and in the environment of the program that needs them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.security.knocking import Api
from tests.support.cluster import LocalCluster, wait_until

CANARY = "canary-5eb63bbbe01eeed093cb22bb8f5acdc3"


@pytest.fixture(scope="module")
def open_handed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster brought up and used by somebody whose umask is 000."""
    before = os.umask(0)
    try:
        cluster = LocalCluster(
            tmp_path_factory.mktemp("open"),
            "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, min: 1, max: 1, resources: {CPU: 4}}]\n",
        )
        cluster.up()
        (cluster.directory / "job.py").write_text("print('hello')\n")
        cluster.cli("submit", "--working-dir", ".", "--", "python3", "job.py")
        cluster.cli("submit", "--env", f"API_KEY={CANARY}", "--", "sh", "-c", "exit 0")
    finally:
        os.umask(before)
    try:
        yield cluster
    finally:
        cluster.clean_up()


def node_directories(cluster: LocalCluster) -> list[Path]:
    papers = [json.loads(path.read_text()) for path in cluster.home.rglob("bootstrap.json")]
    return [Path(paper["directory"]) for paper in papers if paper.get("directory")]


def below(root: Path) -> Iterator[Path]:
    yield root
    for directory, names, files in os.walk(root):
        yield from (Path(directory) / name for name in (*names, *files))


def test_everything_that_is_kept_is_for_its_owner_only_even_under_umask_000(open_handed: LocalCluster) -> None:
    roots = [open_handed.home, *node_directories(open_handed)]
    assert len(roots) >= 3
    wide = []
    for path in (path for root in roots for path in below(root)):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        for_others = (
            0o022 if path.suffix == ".pyz" else 0o077
        )  # the agent's bundle is public, and read inside containers
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & for_others:
            wide.append(f"{stat.filemode(status.st_mode)} {path}")
    assert wide == []


def secrets_of(cluster: LocalCluster) -> dict[str, str]:
    """Every secret of the cluster, by what it is."""
    client = json.loads((cluster.head_dir.parent / "client.json").read_text())
    found = {"admin token": client["token"], "join secret": (cluster.head_dir / "join.secret").read_text().strip()}
    for path in cluster.home.rglob("bootstrap.json"):
        paper = json.loads(path.read_text())
        found[f"join token of {paper['node_id']}"] = paper["join_token"]
    for path in (
        *cluster.head_dir.glob("*.key"),
        *(p for d in node_directories(cluster) for p in d.rglob("credential*")),
    ):
        found[str(path)] = path.read_text().strip().splitlines()[-2 if path.suffix == ".key" else -1]
    return found


def test_no_secret_is_in_an_argument_an_environment_a_log_or_an_answer(open_handed: LocalCluster) -> None:
    secrets = secrets_of(open_handed)
    assert len(secrets) >= 6, sorted(secrets)
    api = Api(open_handed)
    gate = open_handed.directory / "gate"
    waiting = api.submit(argv=["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done"], env={"API_KEY": CANARY})
    wait_until(lambda: api.get(f"/api/v1/jobs/{waiting}")["state"] == "running")
    client = open_handed.start("events", "-f")
    try:
        wait_until(lambda: psutil.Process(client.pid).net_connections("tcp"), what="a client that talks to the head")
        seen = {f"arguments of {p.pid}": " ".join(p.cmdline()) for p in open_handed.processes()}
        seen |= {f"environment of {p.pid} {p.name()}": json.dumps(p.environ()) for p in open_handed.processes()}
        for call in (
            "status",
            "nodes",
            "nodes/cpu-1",
            "jobs",
            f"jobs/{waiting}",
            "events?since=0",
            f"explain/{waiting}",
            "spec",
        ):
            seen[call] = api.call("GET", f"/api/v1/{call}").body.decode()
        seen["metrics"] = api.call("GET", "/metrics").body.decode()
        logs = [path for root in (open_handed.home, *node_directories(open_handed)) for path in root.rglob("*.log")]
        assert logs
        seen |= {str(path): path.read_text(errors="replace") for path in logs}
    finally:
        client.kill()
        client.communicate()
        gate.touch()
    found = [f"{what} in {where}" for where, text in seen.items() for what, secret in secrets.items() if secret in text]
    assert found == []
    told = [where for where, text in seen.items() if CANARY in text and not where.startswith("environment")]
    assert told == [], "the value of a variable that a user gave to a job"


def test_each_secret_lies_in_the_files_that_need_it_and_in_no_other(open_handed: LocalCluster) -> None:
    secrets = secrets_of(open_handed)
    homes: dict[str, set[str]] = {}
    for root in (open_handed.home, *node_directories(open_handed)):
        for path in below(root):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                for what, secret in secrets.items():
                    if secret.encode() in data:
                        homes.setdefault(what, set()).add(path.name)
    assert homes.pop("admin token") == {"client.json"}
    assert homes.pop("join secret") == {"join.secret"}
    for what, files in homes.items():
        allowed = {"bootstrap.json"} if what.startswith("join token") else {Path(what).name}
        assert files <= allowed, f"{what}: {files}"


def test_a_secret_of_a_failed_start_is_not_in_its_error(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    token = json.loads((cluster.head_dir.parent / "client.json").read_text())["token"]
    for arguments in (("status", "-v"), ("submit", "-v", "--pool", "none", "--", "true"), ("job", "show", "-v", "x")):
        done = cluster.cli(*arguments, code=None)
        assert token not in done.stdout + done.stderr
    cluster.kill(int((cluster.head_dir / "supervisor.pid").read_text()))
    cluster.kill(cluster.head_pid())
    done = cluster.cli("status", "-v", code=4)
    assert token not in done.stdout + done.stderr
