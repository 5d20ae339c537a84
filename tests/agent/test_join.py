"""Joining: the token once, the credential afterwards, the cluster's CA and no other."""

from __future__ import annotations

import stat
import subprocess
import sys

import trustme
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until


def test_hello_says_who_and_what_the_node_is(head, start_agent) -> None:
    start_agent(node_id="gpu-3", generation=4)
    hello = head.until_joined()
    assert (hello["wire"], hello["purpose"], hello["uid"]) == (1, "control", head.uid)
    assert (hello["node_id"], hello["generation"], hello["address"]) == ("gpu-3", 4, "127.0.0.1")
    facts = hello["facts"]
    assert facts["cpus"] >= 1 and facts["memory"] > 0 and facts["disk_free"] > 0 and facts["gpus"] == []
    assert facts["hostname"] and facts["python"].startswith("3.") and facts["clock"] > 1.6e9
    assert hello["tasks"] == [] and hello["engine"] == {"state": "stopped"}


def test_a_heartbeat_tells_now_and_then_what_is_in_use(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    use = wait_until(lambda: head.uses)[0]
    assert set(use) == {"cpu", "memory"} and use["cpu"] >= 0 and 2**20 < use["memory"] < 2**50
    wait_until(lambda: head.beats > 10)
    assert len(head.uses) < head.beats / 3


def test_gpus_are_read_from_the_driver(head, start_agent, tmp_path) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034, GPU-aa'\necho 'NVIDIA L4, 23034, GPU-bb'\n")
    tool.chmod(0o755)
    start_agent(env={"PATH": f"{tool.parent}:/usr/bin:/bin"})
    gpus = head.until_joined()["facts"]["gpus"]
    assert [(g["name"], g["memory"], g["uuid"]) for g in gpus] == [
        ("NVIDIA L4", 23034 * 2**20, "GPU-aa"),
        ("NVIDIA L4", 23034 * 2**20, "GPU-bb"),
    ]


def test_the_token_buys_a_credential_that_only_its_owner_can_read_and_that_serves_from_then_on(
    head, start_agent
) -> None:
    first = start_agent()
    assert head.until_joined()["secret"] == "join-token"
    file = wait_until(lambda: next(first.directory.glob("credential"), None))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(first.directory.stat().st_mode) == 0o700
    first.kill()
    start_agent()
    second = head.until_joined(times=2)
    assert second["secret"] in head.credentials and second["boot_id"] != head.hellos[0]["boot_id"]


def test_the_credential_of_an_earlier_node_in_the_same_place_is_not_used(head, start_agent) -> None:
    first = start_agent()
    head.until_joined()
    first.kill()
    head.join_tokens.add("second-token")
    start_agent(generation=2, join_token="second-token")
    assert head.until_joined(times=2)["secret"] == "second-token"


def test_a_message_that_makes_no_sense_is_passed_over(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.send("run", tasks=[{"nonsense": 1}])
    head.send("kill")
    head.send("something_of_the_future", field=1)
    head.run(TaskSpec("j-1/1/0", ["/bin/true"]))
    assert head.until_exited("j-1/1/0").exit_code == 0
    assert head.connections == 1 and "cannot be understood" in agent.stderr


def test_a_used_token_without_its_credential_is_refused_and_the_agent_ends_with_3(head, start_agent, tmp_path) -> None:
    head.join_tokens.clear()
    agent = start_agent()
    assert agent.wait() == 3
    assert "the token was used before" in agent.stderr


def test_a_head_of_another_ca_hears_nothing(head, start_agent) -> None:
    agent = start_agent(ca_pem=trustme.CA().cert_pem.bytes().decode())
    wait_until(lambda: agent.stderr.count("no connection to the head") >= 2)
    assert head.connections == 0 and agent.process.poll() is None


def test_a_head_of_another_cluster_hears_nothing(head, start_agent) -> None:
    agent = start_agent(uid="another")
    wait_until(lambda: "no connection to the head" in agent.stderr)
    assert head.connections == 0


def test_a_final_refusal_ends_the_work_and_the_agent(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec("j-1/1/0", ["/bin/sleep", "600"]))
    head.until(lambda: "j-1/1/0" in head.reports)
    head.send("refuse", code="stale", reason="generation 2 took over", final=True)
    assert agent.wait() == 3
    wait_until(lambda: not agent.alive())


def test_a_refusal_that_is_not_final_is_tried_again(head, start_agent) -> None:
    head.refusal = {"t": "refuse", "code": "starting", "reason": "the head is starting", "final": False}
    start_agent()
    head.until(lambda: len(head.hellos) >= 2)
    head.refusal = None
    head.until(lambda: head._writer)


def test_heads_are_tried_in_turn(head, start_agent) -> None:
    start_agent(heads=["127.0.0.1:1", f"127.0.0.1:{head.port}"])
    head.until_joined()


def test_two_agents_do_not_share_a_directory(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    second = start_agent()
    assert second.wait() == 5
    assert "another agent runs in" in second.stderr


def test_a_broken_bootstrap_is_a_sentence(bundle, tmp_path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text('{"cluster": "x"}')
    argv = [sys.executable, "-S", "-E", str(bundle), "--bootstrap", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "is not a bootstrap document" in done.stderr
