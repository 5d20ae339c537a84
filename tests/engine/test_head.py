"""Ray's head loses a process, and neither its workers nor what they hold are lost."""

from __future__ import annotations

import os
import signal
import time

import httpx
from clusterctl_runtime.engine.launch import EngineFailed

from tests.engine.test_raylets import pid_of
from tests.support.cluster import wait_until

# One detached actor, asked once at the start and then for every line of input but "end".
COUNTER = """
import sys, time, ray
ray.init(namespace="kept", log_to_driver=False)
NAME = {name!r}

@ray.remote(num_cpus=0, resources={{"TPU": 1}})
class Counter:
    def __init__(self): self.n = 0
    def next(self): self.n += 1; return self.n
    def leave(self): ray.actor.exit_actor()

counter = Counter.options(name=NAME, lifetime="detached", get_if_exists=True).remote()
print(ray.get(counter.next.remote(), timeout=120))
for line in sys.stdin:
    if line == "end\\n":
        counter.leave.remote()
        while NAME in ray.util.list_named_actors():
            time.sleep(0.02)
    else:
        print(ray.get(counter.next.remote(), timeout=120))
"""


def test_the_gcs_is_started_again_under_running_drivers(cluster):
    cluster.quiet()
    head = cluster.raylets["head"]
    with cluster.driver(COUNTER.format(name="beneath")) as driver:
        assert driver.line() == "1"
        killed = pid_of(head, "gcs_server")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: "the GCS ended with signal 9" in head.state["detail"])
        assert pid_of(head, "gcs_server") != killed
        driver.say("again")
        assert driver.line() == "2"
        driver.say("end")
        assert driver.end() == 0
    assert head.state["state"] == "ready"
    cluster.until(lambda s: s.healthy and sum(n.status in ("IDLE", "RUNNING") for n in s.nodes) == 3)


def test_a_head_whose_state_is_damaged_begins_anew_and_says_so_unless_the_spec_wants_it_kept(cluster):
    begin = {"role": "head", "gcs_address": ""}
    for wanted, ends in ((True, "failed"), (None, "ready"), (False, "ready")):
        said = []
        head = cluster.raylet(f"damaged-{wanted}", on_change=said.append, fault_tolerant=wanted, **begin)
        store = head._command.store / "kv"
        store.mkdir(parents=True, exist_ok=True)
        (store / "CURRENT").write_text("MANIFEST-of another\n")
        try:
            cluster.loop.run(head.start())
        except EngineFailed as error:
            assert "fault_tolerant is true" in str(error) and "gcs_server ended" in str(error)
        assert said[-1]["state"] == ends, said[-1]
        assert ("Ray begins anew" in said[-1]["detail"]) is (wanted is None)
        assert (store / "CURRENT").exists() is (wanted is not None), (
            "what is damaged goes where Ray begins anew, and nowhere else"
        )
        cluster.loop.run(head.stop())
        del cluster.raylets[f"damaged-{wanted}"]


def test_a_head_started_anew_is_the_same_ray_cluster(cluster):
    cluster.quiet()
    head, session, address = cluster.raylets["head"], cluster.head_state["session"], cluster.address
    with cluster.driver(COUNTER.format(name="anew")) as driver:
        assert driver.line() == "1"
        os.kill(pid_of(head, "raylet"), signal.SIGKILL)
        wait_until(lambda: head.state["state"] == "failed")
    started = time.monotonic()
    cluster.loop.run(head.start())
    print(f"head started anew in {time.monotonic() - started:.1f} s")
    assert (head.state["session"], head.state["address"]) == (session, address)
    assert httpx.get(f"{cluster.dashboard()}/api/version").status_code == 401
    with cluster.driver(COUNTER.format(name="anew")) as driver:
        assert driver.line() == "2"
        driver.say("end")
        assert driver.end() == 0
    cluster.until(lambda s: s.healthy and sum(n.status in ("IDLE", "RUNNING") for n in s.nodes) == 3)
