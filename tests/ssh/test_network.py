"""A network that is slow, is cut and comes back while work runs: nothing is lost, nobody is given up, nothing runs twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ssh.cluster import ROOT, SshCluster
from tests.support.cluster import wait_until
from tests.support.ssh_hosts import SshHost
from tests.support.tcp_proxy import Proxy

PORT = 7420
STEPS = 30
PROGRAM = f"for i in $(seq {STEPS}); do echo $i; sleep 0.2; done; echo once >> /tmp/ran-$CLUSTERCTL_JOB_ID"


@pytest.fixture
def network(hosts: list[SshHost]) -> Iterator[Proxy]:
    """All agents reach the head through it: 0.3 s each way."""
    gateway = hosts[0].address.rpartition(".")[0] + ".1"
    with Proxy((hosts[0].address, PORT), address=gateway, port=PORT, delay=0.3) as made:
        yield made


def test_slow_then_cut_then_back_while_jobs_run(hosts: list[SshHost], network: Proxy, cluster: SshCluster) -> None:
    gateway = hosts[0].address.rpartition(".")[0] + ".1"
    cluster.write(low=3, pool="idle_timeout: 5m")
    text = cluster.spec.read_text()
    cluster.spec.write_text(text.replace("provider: ssh", f"provider: {{ssh: {{address: {gateway}}}}}"))
    cluster.up()
    settings = hosts[1].run("cat", f"{ROOT}/host.json")
    assert f'"heads": ["{gateway}:{PORT}"]' in settings  # there is no other way

    jobs = [cluster.submit("--max-retries", "3", "--", "sh", "-c", PROGRAM) for _ in hosts]
    for job in jobs:
        wait_until(lambda job=job: "3\n" in cluster.cli("logs", job, code=None).stdout, 30, "it runs")
    network.cut()
    wait_until(lambda: not any(host["connected"] for host in cluster.api_hosts().values()), 30, "the head misses all")
    turned_away = network.turned_away
    wait_until(lambda: network.turned_away > turned_away + 3, 30, "they try again")
    network.restore()

    for job in jobs:
        done = cluster.wait_job(job, "succeeded", 60)
        assert len(done["attempts"]) == 1
        assert cluster.cli("logs", job).stdout.split() == [str(n) for n in range(1, STEPS + 1)]
        ran = [host.run("sh", "-c", f"cat /tmp/ran-{job} 2>/dev/null; true") for host in hosts]
        assert sorted(ran) == ["", "", "once\n"]
    told = [f"{event['at']:.1f} {event['subject']} {event['text']}" for event in cluster.json("events")["events"]]
    nodes = {node["id"]: node for node in cluster.status()["nodes"]}
    assert set(nodes) == {"head-1", "cpu-1", "cpu-2", "cpu-3"}, "\n".join(told)
    wait_until(lambda: len(cluster.ready_nodes()) == 3, 30, "all are there again")
    events = cluster.json("events")["events"]
    assert not [event for event in events if event["code"] in ("fail", "gone", "terminate", "lost")]
