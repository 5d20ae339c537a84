"""Jobs on a real cluster of local nodes, without an engine: from submit to exit code."""

from __future__ import annotations

import json
import signal

from tests.support.cluster import wait_until


def test_a_job_waits_with_a_reason_gets_a_node_runs_and_passes_its_exit_code_on(cluster):
    assert cluster.ready_nodes() == []
    done = cluster.cli("submit", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert "out\n" in done.stdout
    assert "err\n" in done.stdout
    launch = next(e for e in cluster.json("events")["events"] if e["code"] == "launch" and e["subject"] != "head-1")
    assert "CPU" in launch["text"]


def test_a_signal_of_the_program_becomes_128_plus_its_number(cluster):
    cluster.cli("submit", "--", "sh", "-c", "kill -9 $$", code=128 + signal.SIGKILL)


def test_nodes_come_for_demand_and_go_when_idle_and_say_why(cluster):
    ids = [cluster.submit("--cpus", "2", "--", "true") for _ in range(3)]
    for job_id in ids:
        cluster.wait_job(job_id, "succeeded")
    wait_until(lambda: not [n for n in cluster.status()["nodes"] if n["pool"] == "cpu"], what="idle nodes are removed")
    events = cluster.json("events")["events"]
    launches = [e for e in events if e["code"] == "launch" and e["subject"].startswith("cpu")]
    assert 1 <= len(launches) <= 3
    assert any(e["code"] == "drain" and "idle" in e["text"] for e in events)


def test_a_gang_runs_on_as_many_nodes_as_it_has_ranks_with_torchruns_variables(cluster):
    program = "import os,json; print(json.dumps({k: os.environ[k] for k in "
    program += "('RANK','WORLD_SIZE','MASTER_ADDR','MASTER_PORT','CLUSTERCTL_NODE_ID','CLUSTERCTL_HOSTS')}))"
    job_id = cluster.submit("--nodes", "2", "--cpus", "2", "--", "python3", "-c", program)
    job = cluster.wait_job(job_id, "succeeded")
    ranks = [
        json.loads(cluster.cli("logs", job_id, "--rank", str(r)).stdout.splitlines()[-1].split("] ")[-1])
        for r in (0, 1)
    ]
    assert [r["RANK"] for r in ranks] == ["0", "1"]
    assert {r["WORLD_SIZE"] for r in ranks} == {"2"}
    assert len({(r["MASTER_ADDR"], r["MASTER_PORT"]) for r in ranks}) == 1
    assert len(set(job["attempts"][0]["nodes"])) == 2


def test_gpu_work_gets_gpu_ids_of_its_own_and_cpu_work_none(cluster):
    show = [
        "python3",
        "-c",
        "import os,time; print('ids', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(1)",
    ]
    ids = [cluster.submit("--gpus", "1", "--cpus", "0", "--", *show) for _ in range(2)]
    for job_id in ids:
        cluster.wait_job(job_id, "succeeded")
    seen = {cluster.cli("logs", job_id).stdout.split()[-1] for job_id in ids}
    nodes = {cluster.job(job_id)["attempts"][0]["nodes"][0] for job_id in ids}
    assert seen == {"0", "1"} or len(nodes) == 2
    plain = cluster.submit("--", "python3", "-c", "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))")
    cluster.wait_job(plain, "succeeded")
    assert cluster.cli("logs", plain).stdout.strip() == "''"


def test_the_working_directory_travels_by_content_without_what_is_ignored(cluster):
    work = cluster.directory / "work"
    (work / "pkg").mkdir(parents=True)
    (work / "job.py").write_text(
        "import sys; from pkg.mod import VALUE; print(VALUE, sys.argv[1:], open('data.txt').read())"
    )
    (work / "pkg" / "mod.py").write_text("VALUE = 42")
    (work / "data.txt").write_text("data")
    (work / "secret.key").write_text("no")
    (work / ".clusterctlignore").write_text("*.key\n")
    done = cluster.cli("submit", "--working-dir", str(work), str(work / "job.py"), "a", "b c")
    assert "42 ['a', 'b c'] data" in done.stdout
    listing = cluster.cli("submit", "--working-dir", str(work), "--", "ls")
    assert "secret.key" not in listing.stdout


def test_environment_and_timeout_and_retries_do_what_they_say(cluster):
    assert "v=1 2" in cluster.cli("submit", "--env", "V=1 2", "--", "sh", "-c", "echo v=$V").stdout
    late = cluster.cli("submit", "--timeout", "1s", "--", "sleep", "60", code=None)
    assert late.returncode != 0
    assert "timeout" in late.stderr
    job_id = cluster.submit("--max-retries", "2", "--", "sh", "-c", "exit 3")
    assert len(cluster.wait_job(job_id, "failed")["attempts"]) == 3


def test_the_same_submission_id_is_one_job_and_another_body_is_refused(cluster):
    first = cluster.submit("--submission-id", "once", "--", "true")
    assert cluster.submit("--submission-id", "once", "--", "true") == first == "once"
    refused = cluster.cli("submit", "-d", "--submission-id", "once", "--", "false", code=5)
    assert "other contents" in refused.stderr
    assert len(cluster.json("jobs")["jobs"]) == 1


def test_a_job_that_no_node_can_ever_run_says_what_would_fix_it(cluster):
    job_id = cluster.submit("--gpus", "8", "--", "true")
    wait_until(lambda: cluster.job(job_id)["wait"], what="a reason")
    explained = cluster.json("explain", job_id)
    assert explained["reason"]["code"]
    assert "GPU" in explained["reason"]["text"]
    assert explained["reason"]["fix"]


def test_cancelling_ends_a_job_and_all_its_processes(cluster):
    job_id = cluster.submit("--", "sh", "-c", "sleep 300 & sleep 300")
    cluster.wait_job(job_id, "running")
    cluster.cli("job", "cancel", job_id)
    assert cluster.wait_job(job_id, "cancelled")["state"] == "cancelled"
    wait_until(
        lambda: not [p for p in cluster.processes() if p.name() == "sleep"], what="no process of the job is left"
    )


def test_retry_runs_an_ended_job_once_more(cluster):
    job_id = cluster.submit("--", "false")
    cluster.wait_job(job_id, "failed")
    cluster.cli("job", "retry", job_id)
    wait_until(lambda: len(cluster.job(job_id)["attempts"]) == 2)


def test_a_flood_of_output_is_kept_within_its_cap_and_the_job_is_not_hurt(cluster):
    job_id = cluster.submit("--", "sh", "-c", "yes 0123456789 | head -c 20000000; echo; echo done")
    cluster.wait_job(job_id, "succeeded")
    wait_until(lambda: cluster.cli("logs", job_id).stdout.endswith("done\n"), what="the log is whole")


def test_a_batch_of_jobs_runs_each_once(cluster):
    marks = cluster.directory / "marks"
    marks.mkdir()
    done = cluster.json(
        "submit", "-d", "--array", "0-29", "--cpus", "1", "--", "sh", "-c", f"echo x >> {marks}/$CLUSTERCTL_ARRAY_INDEX"
    )
    array = done["id"]
    wait_until(
        lambda: len([j for j in cluster.json("jobs", "--limit", "100")["jobs"] if j["state"] == "succeeded"]) == 30,
        60,
        array,
    )
    assert sorted(int(p.name) for p in marks.iterdir()) == list(range(30))
    assert {p.read_text() for p in marks.iterdir()} == {"x\n"}


def test_jobs_behind_one_that_lasts_unexpectedly_long_do_not_wait_for_it(cluster):
    script = "case $CLUSTERCTL_ARRAY_INDEX in 30) sleep 600;; esac"
    array = cluster.json("submit", "-d", "--array", "0-59", "--cpus", "2", "--pool", "cpu", "--", "sh", "-c", script)[
        "id"
    ]

    def done() -> int:
        return len(cluster.json("jobs", "--limit", "100", "--state", "succeeded")["jobs"])

    wait_until(lambda: done() == 59, what="all but the long one")
    long = next(j for j in cluster.json("jobs", "--state", "running")["jobs"])
    assert long["array_index"] == 30
    cluster.cli("job", "cancel", array)


def test_a_job_follows_an_array_of_which_only_so_many_run_at_the_same_time(cluster):
    spans = cluster.directory / "spans"
    program = f"date +%s.%N >> {spans}; sleep 0.3; date +%s.%N >> {spans}"
    array = cluster.submit("--array", "0-3%1", "--", "sh", "-c", program)
    last = cluster.submit("--after", f"{array}:any", "--", "sh", "-c", f"wc -l < {spans}")
    wait_until(lambda: "waiting for" in cluster.job(last)["reason"])
    cluster.wait_job(last, "succeeded")
    times = [float(line) for line in spans.read_text().split()]
    assert times == sorted(times) and len(times) == 8
    assert cluster.cli("logs", last).stdout.split()[-1] == "8"


def test_a_job_that_follows_a_failed_one_ends_with_the_reason(cluster):
    first = cluster.submit("--name", "prepare", "--", "sh", "-c", "sleep 1; exit 3")
    done = cluster.cli("submit", "--after", first, "--", "true", code=1)
    assert f"prepare ({first}), which it was to follow, failed" in done.stderr
    refused = cluster.cli("submit", "--after", first, "--", "true", code=2)
    assert f"clusterctl job retry {first}" in refused.stderr


def test_what_a_job_would_need_is_said_before_it_is_submitted(cluster):
    plan = cluster.json("submit", "--plan", "--nodes", "2", "--", "true")
    assert plan["starts"] == "later" and plan["launches"][0]["count"] == 2
    refused = cluster.cli("submit", "--plan", "--cpus", "500", "--", "true")
    assert "would not start" in refused.stdout and "fix" in refused.stdout
    assert cluster.status()["jobs"]["queued"] == 0 and cluster.ready_nodes() == []


def test_a_job_is_named_by_its_name_or_as_the_last_one_wherever_a_job_is_named(cluster):
    first = cluster.submit("--name", "says-hello", "--", "echo", "hello")
    after = cluster.submit("--name", "follows", "--after", "says-hello:any", "--", "sleep", "600")
    cluster.wait_job(first, "succeeded")
    assert cluster.cli("logs", "says-hello").stdout == "hello\n"
    assert cluster.json("job", "show", "last")["id"] == after == cluster.json("explain", "follows")["id"]
    assert cluster.json("job", "retry", first[:7])["id"] == first
    done = cluster.cli("job", "cancel", "follows", "nobody", "--json", code=1)
    assert [one["id"] for one in json.loads(done.stdout)["jobs"]] == [after]
    assert "no job 'nobody'" in done.stderr
    array = cluster.submit("--array", "0-1", "--name", "pair", "--", "true")
    assert cluster.json("job", "show", "pair")["id"] == array
    assert cluster.json("job", "show", "pair.1")["id"] == f"{array}.1"
