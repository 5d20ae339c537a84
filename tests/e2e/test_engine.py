"""Ray on a cluster of ours: the samples that users come with, on a cluster that started with no workers."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from selenium.webdriver.common.by import By

from tests.browser.stage import eventually, open_chromium
from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: demo
provider: local
pools:
  - {name: cpu, min: 0, max: 2, resources: {CPU: 2}, idle_timeout: 15s}
  - {name: tpu, min: 0, max: 1, resources: {CPU: 1, TPU: 1}, idle_timeout: 15s}
  - {name: gpu, min: 0, max: 1, resources: {CPU: 1, GPU: 2}, idle_timeout: 15s}
"""

FAN_OUT = """
import os, ray, helper
ray.init()
@ray.remote
def square(x):
    return helper.square(x), os.environ.get("GREETING"), ray.get_runtime_context().get_node_id()
rows = ray.get([square.remote(i) for i in range(8)])
print("squares", [r[0] for r in rows], {r[1] for r in rows})
@ray.remote
class Counter:
    def __init__(self): self.n = 0
    def add(self): self.n += 1; return self.n
counter = Counter.remote()
print("count", [ray.get(counter.add.remote()) for _ in range(3)])
"""

SHAPES = """
import ray
ray.init()
@ray.remote(num_cpus=1, resources={"TPU": 1})
def on_tpu(): return "tpu"
@ray.remote(num_cpus=0, num_gpus=0.5)
def on_gpu(): return tuple(ray.get_gpu_ids())
print(ray.get(on_tpu.remote()), ray.get([on_gpu.remote() for _ in range(2)]))
"""


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    directory = tmp_path_factory.mktemp("ray")
    cluster = LocalCluster(directory, SPEC)
    try:
        cluster.up()
        yield cluster
        cluster.down()
        assert cluster.processes() == []
    finally:
        cluster.clean_up()


def write_job(cluster: LocalCluster, name: str, text: str) -> Path:
    work = cluster.directory / name
    work.mkdir(exist_ok=True)
    (work / "job.py").write_text(text)
    (work / "helper.py").write_text("def square(x): return x * x\n")
    return work / "job.py"


def test_a_fan_out_and_an_actor_run_on_a_cluster_that_started_with_no_workers(ray_cluster):
    wait_until(lambda: ray_cluster.ready_nodes() == [], what="no worker, as at the start")
    job = write_job(ray_cluster, "fan", FAN_OUT)
    done = ray_cluster.cli("submit", "--working-dir", str(job.parent), "--env", "GREETING=hi", str(job))
    assert "squares [0, 1, 4, 9, 16, 25, 36, 49] {'hi'}" in done.stdout
    assert "count [1, 2, 3]" in done.stdout
    events = ray_cluster.json("events")["events"]
    assert [e for e in events if e["code"] == "launch" and e["subject"].startswith("cpu")]


def test_custom_resources_and_fractions_of_a_gpu_bring_the_pools_that_offer_them(ray_cluster):
    job = write_job(ray_cluster, "shapes", SHAPES)
    done = ray_cluster.cli("submit", "--working-dir", str(job.parent), str(job))
    assert "tpu [" in done.stdout


CPUS = """
import json, ray
from ray._private.state import state  # ray.nodes() shows what a node joined with, not what it has now
ray.init(logging_level="ERROR")
pools = {n["NodeID"]: n["Labels"].get("ray.io/node-group", "") for n in ray.nodes() if n["Alive"]}
print(json.dumps({f"{pools.get(node)}/{node}": has.get("CPU", 0) for node, has in state.total_resources_per_node().items()}))
"""


def cpus_of_pool(cluster: LocalCluster, job: Path, pool: str) -> dict[str, float]:
    """CPUs that Ray has on each node of a pool now."""
    out = cluster.cli("submit", "--working-dir", str(job.parent), str(job)).stdout
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    return {node: cpus for node, cpus in found.items() if node.startswith(f"{pool}/")}


def test_a_queue_job_takes_its_share_of_a_node_back_from_ray_and_returns_it(ray_cluster):
    job_id = ray_cluster.submit("--pool", "cpu", "--cpus", "1", "--", "sleep", "300")
    ray_cluster.wait_job(job_id, "running")
    probe = write_job(ray_cluster, "probe", CPUS)
    shrunk = [node for node, cpus in cpus_of_pool(ray_cluster, probe, "cpu").items() if cpus == 1]
    assert len(shrunk) == 1
    ray_cluster.cli("job", "cancel", job_id)
    ray_cluster.wait_job(job_id, "cancelled")
    assert cpus_of_pool(ray_cluster, probe, "cpu")[shrunk[0]] == 2


def test_jobs_that_start_together_take_all_of_their_shares_from_ray(ray_cluster):
    array = ray_cluster.submit("--pool", "cpu", "--cpus", "1", "--array", "0-3", "--", "sleep", "300")
    for index in range(4):
        ray_cluster.wait_job(f"{array}.{index}", "running")
    probe = write_job(ray_cluster, "together", CPUS)
    assert sum(cpus_of_pool(ray_cluster, probe, "cpu").values()) == 0, "two nodes of two CPUs, and four jobs"
    ray_cluster.cli("job", "cancel", array)
    for index in range(4):
        ray_cluster.wait_job(f"{array}.{index}", "cancelled")


def test_gpus_of_a_job_that_is_cancelled_while_ray_is_asked_for_them_are_the_next_jobs(ray_cluster):
    first = ray_cluster.submit("--gpus", "2", "--cpus", "0", "--", "sleep", "300")
    wait_until(lambda: ray_cluster.json("job", "show", first)["reason"].endswith("is being taken back from Ray for it"))
    ray_cluster.cli("job", "cancel", first)
    shared = [ray_cluster.submit("--gpus", "0.5", "--cpus", "0", "--", "sleep", "300") for _ in range(4)]
    for job_id in shared:
        ray_cluster.wait_job(job_id, "running")
    for job_id in shared:
        ray_cluster.cli("job", "cancel", job_id)
        ray_cluster.wait_job(job_id, "cancelled")


def test_a_queue_job_gets_gpus_that_ray_then_gives_to_nobody_else(ray_cluster):
    show = [
        "python3",
        "-c",
        "import os,time; print('ids', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(300)",
    ]
    job_id = ray_cluster.submit("--gpus", "1", "--cpus", "0", "--", *show)
    ray_cluster.wait_job(job_id, "running")
    wait_until(lambda: "ids" in ray_cluster.cli("logs", job_id).stdout)
    ours = ray_cluster.cli("logs", job_id).stdout.split()[-1]
    text = """
import ray, time
ray.init()
@ray.remote(num_cpus=0, num_gpus=1, max_calls=0)  # else each call with a GPU has a process of its own
def which():
    time.sleep(0.5)
    return ray.get_gpu_ids()[0]
wanted = [which.remote() for _ in range(16)]
print("asked", flush=True)
print("rays", sorted(set(ray.get(wanted))))
"""
    job = write_job(ray_cluster, "which", text)
    greedy = ray_cluster.submit("--working-dir", str(job.parent), str(job))
    wait_until(lambda: "asked" in ray_cluster.cli("logs", greedy).stdout)
    old = ray_cluster.head_pid()
    ray_cluster.kill(old)  # Ray has work for every GPU, and nobody to tell it which are taken
    wait_until(lambda: ray_cluster.head_pid() != old and ray_cluster.cli("status", code=None).returncode == 0)
    ray_cluster.wait_job(greedy, "succeeded")
    assert ours in ("0", "1")
    assert f"rays [{1 - int(ours)}]" in ray_cluster.cli("logs", greedy).stdout
    ray_cluster.cli("job", "cancel", job_id)
    ray_cluster.wait_job(job_id, "cancelled")
    both = ray_cluster.cli("submit", "--working-dir", str(job.parent), str(job)).stdout
    assert "rays [0, 1]" in both, "what the job held went back to Ray"


def test_gpus_of_a_job_that_ended_while_the_head_was_away_go_back_to_ray(ray_cluster):
    job_id = ray_cluster.submit("--gpus", "2", "--cpus", "0", "--", "sh", "-c", "echo $$; exec sleep 300")
    program = wait_until(lambda: ray_cluster.cli("logs", job_id).stdout.strip(), what="its process id")
    old = ray_cluster.head_pid()
    ray_cluster.kill(old)
    ray_cluster.kill(int(program))
    wait_until(lambda: ray_cluster.head_pid() != old and ray_cluster.cli("status", code=None).returncode == 0)
    ray_cluster.wait_job(job_id, "failed")
    text = """
import ray
ray.init()
@ray.remote(num_cpus=0, num_gpus=2)
def both(): return ray.get_gpu_ids()
print("rays", sorted(ray.get(both.remote())))
"""
    job = write_job(ray_cluster, "both", text)
    assert "rays [0, 1]" in ray_cluster.cli("submit", "--working-dir", str(job.parent), str(job)).stdout


def test_rays_http_api_refuses_whoever_has_no_token(ray_cluster):
    import urllib.error
    import urllib.request

    def listening() -> list:
        running = [p for p in ray_cluster.processes() if "dashboard.py" in " ".join(p.cmdline())]
        return [c.laddr for p in running for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]

    def refuses(port: int) -> bool:
        """Whether it speaks HTTP and wants a token; none may take the job."""
        body = json.dumps({"entrypoint": "id"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/jobs/", body, {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=60)
            raise AssertionError(f"port {port} accepted a job without a token")
        except urllib.error.HTTPError as error:
            assert error.code in (401, 403, 404, 405), error.code
            return error.code in (401, 403)
        except OSError:
            return False

    assert wait_until(lambda: sum(refuses(address.port) for address in listening()), what="the dashboard answers")
    ports = listening()
    assert {address.ip for address in ports} <= {"127.0.0.1", "::1"} or any(a.ip == "127.0.0.1" for a in ports)
    dashboard = next(p for p in ray_cluster.processes() if "dashboard.py" in " ".join(p.cmdline()))
    own = Path(dashboard.environ()["TMPDIR"])
    assert own.name == "r" and wait_until(lambda: [*own.glob("pymp-*")]), "what a killed one leaves goes with the node"


TOOLS = """
set -e
eval "$(python -m clusterctl env)"
ray status
ray list nodes --format json > nodes.json
ray job submit --submission-id raysubmit_$$ -- python -c 'import ray; ray.init(); print("job of", ray.nodes()[0]["NodeID"])'
python client.py
"""
CLIENT = """
import os, ray
ray.init(os.environ["CLUSTERCTL_RAY_CLIENT"])
print("client of", ray.get(ray.remote(num_cpus=0)(lambda: ray.nodes()[0]["NodeID"]).remote()))
"""


@pytest.mark.timeout(600)
def test_rays_own_tools_and_programs_here_speak_to_the_cluster_after_one_eval(ray_cluster):
    work = ray_cluster.directory / "tools"
    work.mkdir(exist_ok=True)
    (work / "client.py").write_text(CLIENT)
    environment = {**ray_cluster.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", TOOLS],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = {node["node_id"] for node in json.loads((work / "nodes.json").read_text())}
    assert " 1 head" in done.stdout and nodes
    for what in ("job of", "client of"):
        (node,) = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith(what)}
        assert node in nodes
    told = ray_cluster.cli("env", "--json").stdout
    token = Path(json.loads(told)["variables"]["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o777 == 0o600 and token.read_text() not in told
    (client,) = ray_cluster.json("jobs", "--match", "ray-client")["jobs"]
    assert client["state"] == "running", "it is a driver of the queue like any other"
    ray_cluster.cli("env", "--", "sh", "-c", "exit 7", code=7)
    own = ray_cluster.json("jobs", "--match", "raysubmit_")["ray_jobs"][0]
    assert (own["source"], own["kind"], own["state"]) == ("ray", "submission", "succeeded") and own["ended"] > own[
        "started"
    ]
    assert "of `ray job submit`" in ray_cluster.cli("job", "show", own["id"]).stdout
    told = ray_cluster.cli("logs", own["id"], code=1).stderr
    assert f"`clusterctl env -- ray job logs {own['id']}` prints what it wrote" in told
    assert "ray job stop" in ray_cluster.cli("job", "cancel", own["id"], code=1).stderr
    listed = ray_cluster.json("jobs")
    of_queue = {driver["entrypoint"] for driver in listed["ray_jobs"] if driver["kind"] == "driver"}
    assert not any("job.py" in entrypoint for entrypoint in of_queue), "drivers of the queue's jobs are not Ray's own"
    ray_cluster.cli("job", "cancel", "raysubmit_never", code=3)
    ray_cluster.cli("job", "cancel", client["id"])
    ray_cluster.wait_job(client["id"], "cancelled")


def test_rays_dashboard_opens_in_a_browser_with_its_token_for_whoever_has_the_address(
    ray_cluster: LocalCluster, tmp_path: Path
) -> None:
    command = ray_cluster.start("dashboard", "--ray", "--no-browser", "--json")
    assert command.stdout
    url = json.loads(command.stdout.readline())["url"]
    place = urlsplit(url)

    def ask(path: str, host: str = place.netloc) -> int:
        with closing(http.client.HTTPConnection(place.netloc)) as connection:
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse().status

    assert (ask("/"), ask("/guessed"), ask(place.path, host="elsewhere.example")) == (404, 404, 403)
    browser = open_chromium(tmp_path)
    try:
        browser.get(url)
        assert command.wait(60) == 0, command.communicate()
        assert urlsplit(browser.current_url).netloc != place.netloc
        look = "fetch('/nodes?view=summary').then(answer => arguments[0](answer.status))"
        assert browser.execute_async_script(look) == 200
        eventually(lambda: "Overview" in browser.find_element(By.TAG_NAME, "body").text, "Ray's own page")
    finally:
        browser.quit()


def test_a_raylet_killed_is_replaced_and_ray_retries_its_task(ray_cluster):
    marks = ray_cluster.directory / "marks"
    marks.unlink(missing_ok=True)
    text = f"""
import ray, time
ray.init()
@ray.remote(num_cpus=2, max_retries=3)
def slow():
    with open({str(marks)!r}, "a") as f: f.write(ray.get_runtime_context().get_node_id() + "\\n")
    time.sleep(6)
    return "done"
print(ray.get(slow.remote()))
"""
    job = write_job(ray_cluster, "slow", text)
    job_id = ray_cluster.submit("--working-dir", str(job.parent), str(job))
    wait_until(marks.exists, what="the task started")
    victim = marks.read_text().split()[0]
    raylets = [
        p for p in ray_cluster.processes() if p.name() == "raylet" and any(victim in part for part in p.cmdline())
    ]
    assert raylets, "the raylet that runs the task"
    raylets[0].kill()
    ray_cluster.wait_job(job_id, "succeeded")
    assert "done" in ray_cluster.cli("logs", job_id).stdout
    assert len(set(marks.read_text().split())) == 2


def test_idle_nodes_of_ray_are_drained_and_removed(ray_cluster):
    wait_until(
        lambda: ray_cluster.ready_nodes() == [] and len(ray_cluster.status()["nodes"]) == 1,
        what="only the head node is left",
    )
    reasons = [e["text"] for e in ray_cluster.json("events")["events"] if e["code"] == "drain"]
    assert any("idle" in text for text in reasons)


def test_a_dashboard_that_does_not_start_is_told_and_the_rest_works(tmp_path: Path) -> None:
    pools = "pools: [{name: cpu, min: 0, max: 1, resources: {CPU: 1}}]"
    spec = f"cluster: demo\nprovider: local\nenv: {{RAY_DASHBOARD_STARTUP_TIMEOUT_S: '0'}}\n{pools}\n"
    cluster = LocalCluster(tmp_path, spec)
    try:
        cluster.up()
        engine = wait_until(lambda: (e := cluster.status()["engine"])["message"] and e, what="it is told")
        assert engine["state"] == "ready"
        assert "! engine: Ray's dashboard did not start" in cluster.cli("status").stdout
        assert "degraded" in {event["code"] for event in cluster.json("events")["events"]}
        assert cluster.cli("submit", "--", "echo", "works").stdout.strip() == "works"
        cluster.down()
        assert cluster.processes() == []
    finally:
        cluster.clean_up()
