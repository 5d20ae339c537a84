"""Things die at bad moments: nothing accepted is lost, nothing runs twice, nothing is left behind."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import psutil

from tests.support.cluster import wait_until


def agent_of(cluster, node_id: str) -> psutil.Process:
    """The agent's process: the oldest one that bears the mark of the node's instance."""
    instance = next(n["instance_id"] for n in cluster.status()["nodes"] if n["id"] == node_id)
    marked = [p for p in cluster.processes() if p.environ().get("CLUSTERCTL_INSTANCE") == instance]
    return min(marked, key=lambda p: p.create_time())


def test_a_head_killed_while_jobs_run_goes_on_and_no_job_runs_twice(cluster):
    marks = cluster.directory / "marks"
    script = f"echo start >> {marks}; i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; echo end >> {marks}"
    job_id = cluster.submit("--", "sh", "-c", script)
    cluster.wait_job(job_id, "running")
    wait_until(marks.exists)
    old = cluster.head_pid()
    cluster.kill(old)
    wait_until(
        lambda: cluster.head_pid() != old and psutil.pid_exists(cluster.head_pid()),
        60,
        "the head is started again by itself",
    )
    wait_until(lambda: cluster.cli("status", code=None).returncode == 0, what="the head answers")
    job = cluster.wait_job(job_id, "succeeded")
    assert len(job["attempts"]) == 1
    assert marks.read_text() == "start\nend\n"
    lines = [line for line in cluster.cli("logs", job_id).stdout.splitlines() if line.startswith("line")]
    assert lines == [f"line {i}" for i in range(40)]


def test_a_job_acknowledged_right_before_the_head_is_killed_is_there_afterwards(cluster):
    ids = []
    for _ in range(3):
        ids.append(cluster.submit("--", "true"))
        old = cluster.head_pid()
        cluster.kill(old)
        wait_until(lambda old=old: cluster.cli("status", code=None).returncode == 0 and cluster.head_pid() != old)
    for job_id in ids:
        cluster.wait_job(job_id, "succeeded")


def test_a_stream_of_logs_survives_a_restart_of_the_head(cluster):
    process = cluster.start(
        "submit", "--", "sh", "-c", "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); sleep 0.1; done"
    )
    wait_until(lambda: cluster.json("jobs", "--state", "running")["jobs"])
    cluster.kill(cluster.head_pid())
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line for line in out.splitlines() if line.startswith("line")] == [f"line {i}" for i in range(50)]


def test_an_agent_killed_takes_its_tasks_with_it_and_the_job_is_tried_again_on_a_new_node(cluster):
    marks = cluster.directory / "marks"
    job_id = cluster.submit("--max-retries", "1", "--", "sh", "-c", f"echo $CLUSTERCTL_NODE_ID >> {marks}; sleep 2")
    job = cluster.wait_job(job_id, "running")
    wait_until(marks.exists)
    node_id = job["attempts"][0]["nodes"][0]
    agent_of(cluster, node_id).kill()
    job = cluster.wait_job(job_id, "succeeded")
    assert [a["state"] for a in job["attempts"]] == ["lost", "succeeded"]
    first, second = marks.read_text().split()
    assert first == node_id != second
    story = cluster.json("explain", node_id)
    assert story["kind"] == "node"


def test_an_agent_that_is_told_to_end_gives_its_jobs_to_other_nodes_whatever_their_programs_make_of_it(cluster):
    """As at a reboot, `docker stop` or `systemctl stop`: a program that saves its state and ends well has not done its work."""
    marks = cluster.directory / "marks"
    script = (
        f'echo $CLUSTERCTL_NODE_ID >> {marks}; trap "exit 0" TERM; [ $(wc -l < {marks}) -gt 1 ] || sleep 800 & wait'
    )
    job_id = cluster.submit("--", "sh", "-c", script)
    job = cluster.wait_job(job_id, "running")
    wait_until(marks.exists)
    node_id = job["attempts"][0]["nodes"][0]
    agent_of(cluster, node_id).terminate()
    job = cluster.wait_job(job_id, "succeeded")
    assert [a["state"] for a in job["attempts"]] == ["lost", "succeeded"]
    assert "asked to end" in job["attempts"][0]["reason"]
    assert job["attempts"][1]["nodes"] != [node_id], "nothing starts on a node whose agent ends"


def test_down_at_any_moment_leaves_no_process_port_or_directory(make_cluster):
    cluster = make_cluster()
    for delay_jobs in (0, 3):
        ids = [cluster.submit("--", "sleep", "100") for _ in range(delay_jobs)]
        if ids:
            wait_until(lambda: cluster.json("jobs", "--state", "running")["jobs"])
    ports = {
        c.laddr.port for p in cluster.processes() for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN
    }
    assert ports
    cluster.down()
    assert cluster.processes() == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not (cluster.home / "clusters" / cluster.name).exists()


def test_down_after_the_whole_control_plane_was_killed_still_ends_every_node(cluster):
    cluster.submit("--", "sleep", "100")
    wait_until(lambda: cluster.json("jobs", "--state", "running")["jobs"])
    supervisor = int((cluster.head_dir / "supervisor.pid").read_text())
    head = cluster.head_pid()
    cluster.kill(supervisor)
    cluster.kill(head)
    cluster.down()
    assert cluster.processes() == []


def test_up_again_changes_nothing_and_is_quick_and_a_new_spec_takes_effect(cluster):
    before = cluster.status()
    cluster.up()
    after = cluster.status()
    assert after["head"]["started"] == before["head"]["started"]
    cluster.spec.write_text(cluster.spec.read_text().replace("name: cpu, min: 0", "name: cpu, min: 1"))
    cluster.up()
    assert len(cluster.ready_nodes("cpu")) == 1


def test_what_is_wrong_is_said_with_an_exit_code(cluster):
    unknown = cluster.cli("job", "show", "j-nothing", code=3)
    assert "j-nothing" in unknown.stderr
    cluster.cli("explain", "nobody", code=3)
    cluster.cli("status", "-c", "elsewhere", code=3)
    broken = cluster.directory / "broken.yaml"
    broken.write_text("cluster: demo\nprovider: local\npools: [{name: cpu, mx: 3}]\n")
    said = cluster.cli("up", str(broken), code=2)
    assert "broken.yaml:3:" in said.stderr
    assert "did you mean" in said.stderr


def test_two_ups_of_the_same_cluster_at_the_same_time_make_one_cluster(make_cluster):
    cluster = make_cluster(up=False)
    first = cluster.start("up", str(cluster.spec), "-y")
    second = cluster.start("up", str(cluster.spec), "-y")
    codes = sorted((first.wait(90), second.wait(90)))
    assert codes[0] == 0
    heads = [p for p in cluster.processes() if p.cmdline()[1:4] == ["-I", "-m", "clusterctl_runtime.head"]]
    assert len(heads) == 1
    assert len([n for n in cluster.status()["nodes"] if n["role"] == "head"]) == 1


def test_no_secret_is_in_any_command_line_or_log(cluster):
    cluster.submit("--", "true")
    token = json.loads((cluster.home / "clusters" / "demo" / "client.json").read_text())["token"]
    for process in cluster.processes():
        assert token not in " ".join(process.cmdline())
    for path in Path(cluster.home).rglob("*"):
        if path.is_file() and path.name != "client.json":
            assert token.encode() not in path.read_bytes(), path
    private = [
        p
        for pattern in ("client.json", "config.json", "*.key", "*.secret", "bootstrap*")
        for p in cluster.home.rglob(pattern)
    ]
    assert len(private) >= 5
    for path in private:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_full_disk_for_logs_is_said_and_does_not_hurt_the_job(cluster):
    logs = cluster.head_dir / "logs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(logs)], check=True)
    try:
        job_id = cluster.submit("--", "sh", "-c", "yes 0123456789 | head -c 1000000; exit 0")
        cluster.wait_job(job_id, "succeeded")
        events = cluster.json("events")["events"]
        said = [e for e in events if e["subject"] == job_id and e["code"] == "log_dropped"]
        assert len(said) == 1
        assert "No space left" in said[0]["text"]
        assert cluster.cli("logs", job_id).stdout.startswith("0123456789\n")
    finally:
        subprocess.run(["umount", str(logs)], check=True)


def test_a_taken_port_is_named_and_a_free_one_is_enough_to_go_on(cluster):
    ports = json.loads((cluster.head_dir / "ports.json").read_text())
    cluster.kill(int((cluster.head_dir / "supervisor.pid").read_text()))
    cluster.kill(cluster.head_pid())
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(lambda: _bind(squatter, ports["agents"]))
        squatter.listen()
        failed = cluster.cli("up", str(cluster.spec), "-y", code=1)
        assert f"127.0.0.1:{ports['agents']}" in failed.stderr
        assert "end the program that has this port" in failed.stderr
    cluster.up()
    job_id = cluster.submit("--", "true")
    cluster.wait_job(job_id, "succeeded")


def _bind(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
        return True
    except OSError:
        return False
