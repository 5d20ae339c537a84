"""From `up` to `down`, also when they are interrupted, meet each other, or find the head dead. Nothing may be left."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import LocalCluster, wait_until

SPEC = "cluster: demo\nprovider: local\nengine: none\npools:\n  - {name: cpu, min: 1, max: 2, resources: {CPU: 2}}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """A cluster that is not up yet."""
    made = LocalCluster(tmp_path, SPEC)
    yield made
    made.clean_up()


def nothing_is_left(cluster: LocalCluster, ports: list[int] | None = None) -> bool:
    listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    files = list(cluster.home.glob("clusters/*"))
    return not cluster.processes() and not files and not listening & set(ports or [])


def test_from_init_to_down(cluster: LocalCluster) -> None:
    directory = cluster.directory / "tour"
    written = cluster.json("init", "--provider", "fake", str(directory))["written"]
    assert [Path(path).name for path in written] == ["cluster.yaml", "job.py"]
    cluster.cli("validate", str(cluster.spec))
    planned = [
        (action["op"], action["kind"], action["name"]) for action in cluster.json("plan", str(cluster.spec))["actions"]
    ]
    assert planned == [
        ("add", "cluster", "demo"),
        ("add", "pool", "cpu"),
        ("add", "node", "head-1"),
        ("add", "node", "cpu-1"),
    ]
    cluster.cli("plan", str(cluster.spec), "--exit-code", code=10)
    up = cluster.cli("up", str(cluster.spec))
    assert up.stdout.startswith("cluster demo is up in local after") and "cpu-1" in up.stderr
    head = json.loads((cluster.head_dir / "head.json").read_text())
    assert cluster.cli("submit", "--", "echo", "hello").stdout == "hello\n"
    job = cluster.json("jobs")["jobs"][0]["id"]
    assert cluster.cli("logs", job).stdout == "hello\n"
    assert cluster.json("explain", job)["state"] == "succeeded"
    assert [c["state"] for c in cluster.json("list")["clusters"]] == ["ready"]
    assert cluster.json("down")["left"] == 0
    assert nothing_is_left(cluster, [head["port"], head["agent_port"]])
    assert "is known here" in cluster.cli("down", code=3).stderr
    cluster.cli("down", "demo", code=3)
    cluster.cli("down", str(cluster.spec), code=3)


def test_down_takes_the_file_too_and_ends_what_runs(cluster: LocalCluster) -> None:
    cluster.up()
    cluster.submit("--", "sh", "-c", "sleep 300 & setsid sleep 300 & wait")
    wait_until(lambda: cluster.status()["jobs"]["running"] == 1, what="the job runs")
    refused = cluster.cli("down", str(cluster.spec), code=5).stderr
    assert "cluster demo has jobs (1 running), which would be lost: `clusterctl down demo -y`" in refused
    assert cluster.status()["jobs"]["running"] == 1, "nobody could be asked"
    cluster.cli("down", str(cluster.spec), "-y")
    assert nothing_is_left(cluster)


def test_down_with_a_dead_head_ends_its_nodes(cluster: LocalCluster) -> None:
    cluster.up()
    nodes = len(cluster.processes())
    cluster.kill(int((cluster.head_dir / "supervisor.pid").read_text()))
    cluster.kill(cluster.head_pid())
    wait_until(lambda: len(cluster.processes()) <= nodes - 2, what="the head is dead")
    assert cluster.processes(), "the nodes live on without it"
    cluster.cli("down")
    assert nothing_is_left(cluster)


@pytest.mark.parametrize("moment", ["before the head", "while the head starts", "while nodes boot"])
def test_an_up_that_was_killed_is_finished_by_the_next_or_undone_by_down(cluster: LocalCluster, moment: str) -> None:
    wanted = {
        "before the head": cluster.home / "clusters" / "demo" / "cluster.json",
        "while the head starts": cluster.head_dir / "supervisor.pid",
        "while nodes boot": cluster.head_dir / "head.json",
    }[moment]
    for _ in range(2):
        process = cluster.start("up", str(cluster.spec))
        wait_until(wanted.exists, 60, moment)
        process.kill()
        process.communicate()
        cluster.cli("up", str(cluster.spec))
        assert len(cluster.ready_nodes("cpu")) == 1
        cluster.cli("down")
        assert nothing_is_left(cluster)
    process = cluster.start("up", str(cluster.spec))
    wait_until(wanted.exists, 60, moment)
    process.kill()
    process.communicate()
    cluster.cli("down")
    assert nothing_is_left(cluster)


def test_ctrl_c_in_up_leaves_what_the_next_up_understands(cluster: LocalCluster) -> None:
    process = cluster.start("up", str(cluster.spec))
    wait_until((cluster.head_dir / "head.json").exists, what="the head listens")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode in (0, 130)
    assert cluster.json("up", str(cluster.spec))["head"] == "running"


def test_a_second_up_or_down_from_another_shell_is_told_who_is_at_it(cluster: LocalCluster) -> None:
    first = cluster.start("up", str(cluster.spec))
    wait_until((cluster.home / "locks" / "demo.lock").exists, what="the first is at work")
    refused = 0
    while first.poll() is None and not refused:
        second = cluster.cli("up", str(cluster.spec), code=None)
        if second.returncode:
            refused += 1
            assert (
                second.returncode == 1
                and f"`clusterctl up` (process {first.pid}) is changing cluster 'demo'" in second.stderr
            )
    first.communicate(timeout=120)
    assert first.returncode == 0 and refused
    assert len(cluster.ready_nodes()) == 1


def test_up_says_what_is_missing_when_time_runs_out(cluster: LocalCluster) -> None:
    done = cluster.cli("up", str(cluster.spec), "--timeout", "1ms", code=1)
    assert (
        "not ready after 0.001 s" in done.stderr
        and "waiting for" in done.stderr
        and "`up` again goes on" in done.stderr
    )
    cluster.up()


def test_a_spec_that_grew_is_put_in_force_and_running_jobs_are_not_touched(cluster: LocalCluster) -> None:
    cluster.up()
    job = cluster.submit("--", "sleep", "300")
    cluster.wait_job(job, "running")
    cluster.spec.write_text(SPEC.replace("min: 1", "min: 2"))
    document = cluster.json("up", str(cluster.spec), "-y")
    assert document["spec_changed"] and document["pools"][0]["ready"] == 2
    assert cluster.job(job)["state"] == "running"
    assert (cluster.home / "clusters" / "demo" / "spec.yaml").read_text() == cluster.spec.read_text()


def test_what_a_running_cluster_cannot_become_is_refused_with_exit_code_5(cluster: LocalCluster) -> None:
    cluster.up()
    cluster.spec.write_text(SPEC.replace("engine: none", "engine: ray"))
    done = cluster.cli("up", str(cluster.spec), "-y", code=5)
    assert "cannot be changed" in done.stderr
    assert (cluster.home / "clusters" / "demo" / "spec.yaml").read_text() == SPEC


def test_a_command_waits_for_a_head_that_is_being_started_again(cluster: LocalCluster) -> None:
    cluster.up()
    cluster.kill(cluster.head_pid())
    assert cluster.cli("submit", "--", "echo", "still here").stdout == "still here\n"


def test_a_head_that_cannot_start_says_why_with_the_end_of_its_log(cluster: LocalCluster) -> None:
    cluster.up()
    cluster.kill(int((cluster.head_dir / "supervisor.pid").read_text()))
    cluster.kill(cluster.head_pid())
    (cluster.head_dir / "supervisor.lock").unlink()
    (cluster.head_dir / "supervisor.lock").mkdir()
    done = cluster.cli("up", str(cluster.spec), code=1)
    assert "ended with code" in done.stderr and "supervisor.log" in done.stderr and "Is a directory" in done.stderr
    (cluster.head_dir / "supervisor.lock").rmdir()


def test_time_runs_out_also_when_nothing_changes(cluster: LocalCluster) -> None:
    cluster.up()
    cluster.kill(int((cluster.head_dir / "supervisor.pid").read_text()))
    cluster.kill(cluster.head_pid())
    marks = {str(path) for path in (cluster.home / "clusters" / "demo" / "provider").rglob("bootstrap.json")}
    suspended = [process for process in psutil.process_iter(["cmdline"]) if marks & set(process.info["cmdline"] or ())]
    assert len(suspended) >= 2
    for process in suspended:
        process.suspend()  # the nodes neither come nor go
    began = time.monotonic()
    done = cluster.cli("up", str(cluster.spec), "--timeout", "2s", code=1)
    assert "not ready after 2 s" in done.stderr and time.monotonic() - began < 60
    for process in suspended:
        process.resume()
    cluster.up()


def test_a_spec_that_takes_nodes_down_is_shown_and_waits_for_a_yes(cluster: LocalCluster) -> None:
    cluster.up()
    assert cluster.json("plan", str(cluster.spec), "--exit-code")["actions"] == []
    cluster.spec.write_text(SPEC.replace("CPU: 2", "CPU: 1"))
    plan = json.loads(cluster.cli("plan", str(cluster.spec), "--exit-code", "--json", code=10).stdout)
    assert {"op", "kind", "name", "fields", "policy", "reason"} <= set(plan["actions"][0])
    assert {"before", "after"} <= set(plan["cost"])
    done = cluster.cli("up", str(cluster.spec), code=1)
    assert "[replace]" in done.stderr and "resources: 2 CPU -> 1 CPU" in done.stderr and "pass -y" in done.stderr
    assert [node["id"] for node in cluster.ready_nodes("cpu")] == ["cpu-1"]
    cluster.cli("up", str(cluster.spec), "-y")
    wait_until(lambda: [n["id"] for n in cluster.ready_nodes("cpu")] == ["cpu-2"], what="the node was made anew")


def test_the_plan_that_was_shown_is_the_plan_that_up_carries_out(cluster: LocalCluster) -> None:
    shown = cluster.directory / "plan.json"

    def keep_plan() -> None:
        shown.write_text(cluster.cli("plan", str(cluster.spec), "--json").stdout)

    keep_plan()
    cluster.cli("up", str(cluster.spec), "--plan", str(shown))
    cluster.spec.write_text(SPEC.replace("min: 1, max: 2", "min: 0, max: 1"))
    keep_plan()
    cluster.spec.write_text(SPEC.replace("min: 1, max: 2", "min: 2, max: 2"))
    refused = cluster.cli("up", str(cluster.spec), "--plan", str(shown), code=5)
    assert "not what `up` would do now" in refused.stderr
    assert len(cluster.ready_nodes("cpu")) == 1
    keep_plan()
    cluster.cli("up", str(cluster.spec), "--plan", str(shown))
    assert len(cluster.ready_nodes("cpu")) == 2
    nonsense = cluster.directory / "nonsense.json"
    nonsense.write_text("[]")
    cluster.cli("up", str(cluster.spec), "--plan", str(nonsense), code=2)
