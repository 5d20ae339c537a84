"""The tour of a new user, against the real head."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clusterctl.client.head.endpoint import connect, locate
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster, wait_until
from tests.support.wheels import make_wheel


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_second_up_finds_everything_as_it_should_be_and_does_nothing(cluster: LocalCluster) -> None:
    pid, processes = cluster.head_pid(), cluster.processes()
    before = cluster.json("events")["events"][-1]
    document = cluster.json("up", str(cluster.spec))
    assert (document["head"], document["spec_changed"], cluster.head_pid()) == ("running", False, pid)
    assert document["pools"][0]["ready"] == 1
    assert cluster.json("events")["events"][-1] == before and cluster.processes() == processes


def test_status_has_the_keys_that_scripts_read(cluster: LocalCluster) -> None:
    status = cluster.status()
    assert {"cluster", "uid", "state", "head", "engine", "pools", "nodes", "demand", "jobs", "cost"} <= set(status)
    assert {
        "id",
        "pool",
        "state",
        "instance_id",
        "instance_type",
        "market",
        "zone",
        "address",
        "resources",
        "owner",
        "since",
        "reason",
    } <= set(status["nodes"][0])
    assert {"queued", "running", "succeeded", "failed", "cancelled"} <= set(status["jobs"])
    text = cluster.cli("status").stdout
    assert text.startswith(f"cluster demo ({status['uid'][:8]}): ready") and "cpu-1" in text and "\x1b" not in text


def test_the_metrics_are_such_as_prometheus_takes(cluster: LocalCluster) -> None:
    endpoint = locate(Registry(cluster.home).load(cluster.name))
    with closing(connect(endpoint, cluster.name)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {endpoint.token}"})
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(
        family.documentation and name.startswith(("clusterctl_", "process_")) for name, family in families.items()
    )
    wrong = {name for name, f in families.items() for s in f.samples if "quantile" in s.labels and f.type != "summary"}
    wrong |= {name for name, f in families.items() for s in f.samples if "le" in s.labels and f.type != "histogram"}
    assert wrong == set(), "labels that mean something else to it"
    assert families["clusterctl_plan_seconds"].type == "histogram"
    nodes = {s.labels["pool"]: s.value for s in families["clusterctl_nodes"].samples if s.labels["state"] == "ready"}
    assert nodes["cpu"] == 1


def test_submit_shows_the_output_and_ends_with_the_programs_exit_code(cluster: LocalCluster) -> None:
    done = cluster.cli("submit", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == "out\nerr\n" and "exited with code 7" in done.stderr
    assert cluster.cli("submit", "--", "true").stdout == ""
    cluster.cli("submit", "--", "sh", "-c", "kill -9 $$", code=137)
    assert cluster.cli("submit", "--", "no-such-program", code=None).returncode != 0


def test_a_file_travels_with_its_directory_and_gets_its_arguments(cluster: LocalCluster) -> None:
    (cluster.directory / "package").mkdir(exist_ok=True)
    (cluster.directory / "package" / "__init__.py").write_text("NAME = 'imported'\n")
    script = "import os, sys, package\nprint(package.NAME, sys.argv[1:], os.environ['COLOUR'])\n"
    (cluster.directory / "job.py").write_text(script)
    (cluster.directory / ".clusterctlignore").write_text("home/\n")
    done = cluster.cli("submit", "--env", "COLOUR=blue", "job.py", "--epochs", "3", "-c", "x")
    assert done.stdout == "imported ['--epochs', '3', '-c', 'x'] blue\n"


def test_a_file_is_found_by_what_comes_before_the_double_dash(cluster: LocalCluster) -> None:
    assert cluster.cli("submit", "missing.py", code=2).stderr.startswith("clusterctl: there is no file")
    job = cluster.job(cluster.submit("--", "missing.py", "--flag"))
    assert job["entrypoint"] == ["missing.py", "--flag"] and not job["script"]


def test_a_job_brings_its_own_packages_or_says_why_it_cannot_have_them(cluster: LocalCluster) -> None:
    make_wheel(cluster.directory / "wheels", "own_words", "1.5", program="own-words")
    (cluster.directory / "needs.txt").write_text("own_words  # ours\n")
    here = ("--env", "PIP_NO_INDEX=1", "--env", f"PIP_FIND_LINKS={cluster.directory / 'wheels'}")
    assert cluster.cli("submit", *here, "--requirements", "needs.txt", "--", "own-words").stdout == "1.5\n"
    (cluster.directory / "needs.txt").write_text("nobody-has-this\n")
    failed = cluster.cli("submit", *here, "--requirements", "needs.txt", "--", "own-words", code=1)
    assert "the job's requirements were not installed" in failed.stderr and "nobody-has-this" in failed.stderr
    (cluster.directory / "needs.txt").write_text("-e .\n")
    assert (
        "needs.txt:1: -e is not read here"
        in cluster.cli("submit", "--requirements", "needs.txt", "--", "true", code=2).stderr
    )


def test_what_is_piped_in_is_the_program_or_is_refused_and_a_file_from_elsewhere_says_what_travels(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    def piped(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "clusterctl", "submit", *words]
        return subprocess.run(
            command, env=cluster.env, cwd=cluster.directory, input=text, capture_output=True, text=True, timeout=300
        )

    program = "import sys; print('by input', sys.argv[1:], repr(sys.stdin.read()))"
    done = piped(program, "-", "--epochs", "3")
    assert (done.returncode, done.stdout) == (0, "by input ['--epochs', '3'] ''\n"), done
    assert (piped("", "-").returncode, "no program came in" in piped("", "-").stderr) == (2, True)
    assert "has no directory" in piped(program, "--working-dir", ".", "-").stderr
    assert piped("", "--", "true").returncode == 0, "an empty pipe is what many programs start others with"

    (tmp_path / "lone.py").write_text("import os; print(sorted(os.listdir()))")
    (tmp_path / "data.txt").write_text("1\n2\n")
    with (tmp_path / "data.txt").open() as data:
        refused = subprocess.run(
            [sys.executable, "-m", "clusterctl", "submit", "--", "cat"],
            env=cluster.env, cwd=cluster.directory, stdin=data, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert refused.returncode == 2 and "does not reach the job" in refused.stderr and "< /dev/null" in refused.stderr
    done = cluster.cli("submit", str(tmp_path / "lone.py"))
    assert done.stdout == "['lone.py']\n"
    assert f"lone.py travels alone, since it is not in {cluster.directory}: --working-dir DIR" in done.stderr


def test_a_detached_job_is_watched_by_its_id(cluster: LocalCluster) -> None:
    accepted = cluster.json("submit", "-d", "--name", "greeting", "--", "sh", "-c", "echo one; echo two")
    assert set(accepted) == {"id", "state"}
    done = cluster.cli("logs", "-f", accepted["id"])
    assert done.stdout == "one\ntwo\n"
    assert cluster.cli("logs", accepted["id"], "--tail", "1").stdout == "two\n"
    pieces = lines(cluster.cli("logs", accepted["id"], "--json").stdout)
    assert "".join(p["data"] for p in pieces[:-1]) == "one\ntwo\n" and pieces[-1] == {
        "end": True,
        "state": "succeeded",
        "exit_code": 0,
    }
    job = cluster.job(accepted["id"])
    assert {
        "id",
        "name",
        "state",
        "exit_code",
        "attempts",
        "submitted",
        "started",
        "ended",
        "reason",
        "entrypoint",
        "resources",
    } <= set(job)
    assert {"id", "state", "nodes", "started", "ended", "exit_code"} <= set(job["attempts"][0])
    assert (job["name"], job["state"], job["exit_code"]) == ("greeting", "succeeded", 0)
    listed = cluster.json("jobs")["jobs"]
    assert accepted["id"] in [j["id"] for j in listed]
    for verb in (
        ["jobs"],
        ["job", "show", accepted["id"]],
        ["explain", accepted["id"]],
        ["nodes"],
        ["events"],
        ["list"],
        ["offers"],
        ["cost"],
    ):
        assert cluster.cli(*verb).stdout.strip()
        cluster.json(*verb)


def test_a_gangs_lines_begin_with_their_rank(cluster: LocalCluster) -> None:
    done = cluster.cli("submit", "--nodes", "2", "--", "sh", "-c", "echo I am $RANK of $WORLD_SIZE")
    assert sorted(done.stdout.splitlines()) == ["[0] I am 0 of 2", "[1] I am 1 of 2"]
    job = cluster.json("jobs")["jobs"][0]["id"]
    assert cluster.cli("logs", job, "--rank", "1").stdout == "I am 1 of 2\n"


def test_the_same_submission_id_is_the_same_job_and_another_body_is_refused(cluster: LocalCluster) -> None:
    first = cluster.json("submit", "-d", "--submission-id", "mine-1", "--", "true")
    assert cluster.json("submit", "-d", "--submission-id", "mine-1", "--", "true")["id"] == first["id"] == "mine-1"
    assert "mine-1" in cluster.cli("submit", "-d", "--submission-id", "mine-1", "--", "false", code=5).stderr


def test_what_is_not_there_is_a_sentence_and_exit_code_3(cluster: LocalCluster) -> None:
    for verb in (
        ["job", "show"],
        ["job", "cancel"],
        ["job", "retry"],
        ["logs"],
        ["explain"],
        ["node", "drain"],
        ["node", "show"],
    ):
        done = cluster.cli(*verb, "nope-9", code=3)
        assert "nope-9" in done.stderr and "Traceback" not in done.stderr and not done.stdout
    cluster.cli("status", "-c", "nope", code=3)


def test_a_waiting_job_says_why_and_can_be_cancelled(cluster: LocalCluster) -> None:
    waiting = cluster.start("submit", "--cpus", "64", "--", "true")
    assert waiting.stderr is not None
    named, said = waiting.stderr.readline(), waiting.stderr.readline()
    assert said.startswith("waiting") and "64" in said
    job = cluster.json("jobs", "--state", "queued")["jobs"][0]["id"]
    assert named == f"job {job}\n"
    explained = cluster.json("explain", job)
    assert explained["reason"]["code"] and explained["reason"]["text"]
    assert cluster.json("job", "cancel", job)["state"] == "cancelled"
    assert waiting.wait(60) == 1
    waiting.communicate()


def test_several_jobs_are_cancelled_tried_again_and_read_by_what_they_are(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    many = f"many-{tmp_path.name}"
    ids = [
        cluster.cli("submit", "-d", "-q", "--name", many, "--cpus", "64", "--", "true").stdout.strip() for _ in range(2)
    ]
    other = cluster.cli("submit", "-d", "--name", "another", "--cpus", "64", "--", "true").stdout.strip()
    refused = cluster.cli("job", "cancel", "--name", many, code=5).stderr
    assert "cancel means 2 jobs (2 queued) here: say -y" in refused
    done = cluster.json("job", "cancel", "--name", many, "-y")
    assert sorted(job["id"] for job in done["jobs"]) == sorted(ids) and done["failed"] == []
    assert cluster.job(other)["state"] == "queued"
    again = cluster.cli("job", "retry", "--name", many, "--state", "cancelled", "-y").stdout.splitlines()
    assert sorted(again) == sorted(f"job {job}: queued" for job in ids)
    assert len(cluster.cli("job", "cancel", "--all", "-y").stdout.splitlines()) == 3
    assert cluster.cli("job", "cancel", "--all", "-y").stdout == "nothing to cancel: no job fits\n"
    says = f"says-{tmp_path.name}"
    for word in ("one", "two"):
        cluster.cli("submit", "-q", "--name", says, "--", "echo", word)
    first, said, second, also = cluster.cli("logs", "--name", says).stdout.splitlines()
    assert (
        (said, also) == ("one", "two") and first.startswith("==> job j-") and second.endswith(f" {says}: succeeded <==")
    )
    cluster.cli("logs", "--name", says, "-f", code=2)
    cluster.cli("job", "cancel", "--all", other, code=2)


def test_ctrl_c_without_a_terminal_detaches_and_says_how_to_cancel(cluster: LocalCluster) -> None:
    waiting = cluster.start("submit", "--", "sh", "-c", "echo begun; exec sleep 60")
    assert waiting.stdout is not None and waiting.stdout.readline() == "begun\n"
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=120)
    assert waiting.returncode == 130
    job = re.search(r"clusterctl job cancel (\S+?)`", said).group(1)  # type: ignore[union-attr]
    assert cluster.job(job)["state"] == "running"
    cluster.json("job", "cancel", job)
    cluster.wait_job(job, "cancelled")
    assert cluster.job(job)["state"] == "cancelled"


def on_a_terminal(cluster: LocalCluster, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", *arguments], env=cluster.env, cwd=cluster.directory,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    return process, master


def read_until(master: int, wanted: str, seconds: float = 60) -> str:
    text, deadline = "", time.monotonic() + seconds
    while wanted not in text:
        readable, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, f"{wanted!r} not in {text!r}"
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        text += data.decode(errors="replace")
    return text


def test_ctrl_c_on_a_terminal_asks_and_cancels(cluster: LocalCluster) -> None:
    process, master = on_a_terminal(cluster, "submit", "--", "sh", "-c", "echo begun; exec sleep 60")
    try:
        read_until(master, "begun")
        process.send_signal(signal.SIGINT)
        read_until(master, "[c/D]")
        os.write(master, b"c\n")
        said = read_until(master, "cancelled")
        assert "cancelled" in said
        assert process.wait(60) not in (0, 130)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert cluster.json("jobs")["jobs"][0]["state"] == "cancelled"


def test_ctrl_c_twice_on_a_terminal_detaches(cluster: LocalCluster) -> None:
    process, master = on_a_terminal(cluster, "submit", "--", "sh", "-c", "echo begun; exec sleep 60")
    try:
        read_until(master, "begun")
        process.send_signal(signal.SIGINT)
        read_until(master, "[c/D]")
        process.send_signal(signal.SIGINT)
        read_until(master, "detached")
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(master)
    job = cluster.json("jobs")["jobs"][0]
    assert job["state"] == "running"
    cluster.json("job", "cancel", job["id"])
    cluster.wait_job(job["id"], "cancelled")


def test_a_log_cannot_command_the_terminal_and_arrives_whole_in_a_file(cluster: LocalCluster) -> None:
    program = r"printf '\033]52;c;ZXZpbA==\007safe\n'"
    raw = cluster.cli("submit", "--", "sh", "-c", program).stdout
    assert raw == "\x1b]52;c;ZXZpbA==\x07safe\n"
    process, master = on_a_terminal(cluster, "submit", "--", "sh", "-c", program)
    shown = read_until(master, "safe")
    process.wait(60)
    os.close(master)
    assert "\\x1b]52;c;ZXZpbA==\\x07safe" in shown and "\x1b]52" not in shown


def test_a_log_goes_on_when_the_head_is_killed_in_the_middle(cluster: LocalCluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    program = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after; exit 3"
    waiting = cluster.start("submit", "--", "sh", "-c", program)
    assert waiting.stdout is not None and waiting.stdout.readline() == "before\n"
    pid = cluster.head_pid()
    cluster.kill(pid)
    wait_until(
        lambda: cluster.cli("status", code=None).returncode == 0 and cluster.head_pid() != pid, what="a new head"
    )
    gate.touch()
    out, said = waiting.communicate(timeout=120)
    assert (out, waiting.returncode) == ("after\n", 3), said


def test_events_are_numbered_and_carry_reasons(cluster: LocalCluster) -> None:
    events = cluster.json("events")["events"]
    assert events and {"seq", "at", "kind", "subject", "code", "text"} <= set(events[0])
    assert [e["seq"] for e in events] == sorted({e["seq"] for e in events})
    following = cluster.start("events", "-f", "--json", "--since", str(events[-1]["seq"]))
    cluster.submit("--", "true")
    assert following.stdout is not None
    event = json.loads(following.stdout.readline())
    assert event["seq"] > events[-1]["seq"] and event["text"]
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=120)
    assert following.returncode == 130


def test_the_dashboard_is_forwarded_on_loopback_only_and_ends_with_ctrl_c(cluster: LocalCluster) -> None:
    forwarding = cluster.start("dashboard", "--no-browser")
    assert forwarding.stdout is not None
    url = forwarding.stdout.readline().strip()
    base, _, ticket = url.partition("#ticket=")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", base) and ticket
    listening = [
        c.laddr for c in psutil.Process(forwarding.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN
    ]
    assert [address.ip for address in listening] == ["127.0.0.1"]
    with urllib.request.urlopen(base, timeout=120) as answer:
        assert answer.status == 200 and b"<html" in answer.read().lower()
    request = urllib.request.Request(
        f"{base}api/v1/session", json.dumps({"ticket": ticket}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert json.load(answer)["token"]
    forwarding.send_signal(signal.SIGINT)
    forwarding.communicate(timeout=120)
    assert forwarding.returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(base, timeout=120)


def test_no_secret_is_in_a_command_line_an_environment_or_a_file_that_others_can_read(cluster: LocalCluster) -> None:
    token = json.loads((cluster.home / "clusters" / "demo" / "client.json").read_text())["token"]
    cluster.start("submit", "--", "sleep", "1").communicate()
    for process in cluster.processes():
        assert token not in " ".join(process.cmdline())
        assert token not in json.dumps(process.environ())
    for path in cluster.home.rglob("*"):
        if path.is_file() and token.encode() in path.read_bytes():
            assert path.name == "client.json" and stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (cluster.home, *(p for p in cluster.home.glob("clusters/*") if p.is_dir())):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_gc_leaves_a_living_cluster_of_another_home_alone(cluster: LocalCluster, tmp_path: Path) -> None:
    environment = cluster.env | {"CLUSTERCTL_HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-m", "clusterctl", "gc", "--dry-run", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    uid = cluster.status()["uid"]
    assert uid not in [stray["uid"] for stray in json.loads(done.stdout)["strays"]]


def test_an_unreachable_head_is_exit_code_4_and_up_starts_it_again(cluster: LocalCluster) -> None:
    supervisor = int((cluster.head_dir / "supervisor.pid").read_text())
    head = cluster.head_pid()
    cluster.kill(supervisor)
    cluster.kill(head)
    wait_until(lambda: not psutil.pid_exists(head), what="the head is dead")
    done = cluster.cli("status", code=4)
    assert "is not running" in done.stderr and "clusterctl up" in done.stderr
    cluster.cli("submit", "--", "true", code=4)
    cluster.cli("events", "-f", code=4)
    document = cluster.json("up", str(cluster.spec))
    assert document["head"] == "started" and document["pools"][0]["ready"] >= 1
    assert cluster.head_pid() != head


def test_bash_completes_verbs_options_and_the_names_that_there_are(cluster: LocalCluster) -> None:
    job = cluster.submit("--name", "measured", "--", "true")
    programs = Path(sys.executable).parent

    def completed(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in ("clusterctl", *words))
        script = f'eval "$(clusterctl completion bash)"; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; '
        script += '_clusterctl_completion clusterctl; printf "%s\\n" "${COMPREPLY[@]}"'
        env = {**cluster.env, "PATH": f"{programs}:{cluster.env['PATH']}"}
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
        assert not done.stderr, done.stderr
        return done.stdout.split()

    assert completed("st") == ["status"] and completed("job", "c") == ["cancel"]
    assert completed("logs", "mea") == ["measured"] and completed("job", "show", job[:5]) == [job]
    assert completed("node", "show", "head") == ["head-1"] and "head-1" in completed("explain", "")
    assert completed("down", "de") == completed("-c", "de") == ["demo"]
    assert completed("up", "--time") == ["--timeout", "--timeline"]
    assert completed("nonsense", "x") == [] and completed("-c", "nobody", "logs", "m") == []
