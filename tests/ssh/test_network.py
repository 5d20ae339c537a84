"""A network that is slow, is cut and comes back while work runs: nothing is lost, nobody is given up, nothing runs twice.

One that stays away for longer than a node's lease: the node has ended itself before its work begins elsewhere.
"""

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
        wait_until(lambda job=job: "3\n" in cluster.cli("logs", job, code=None).stdout, what="it runs")
    network.cut()
    wait_until(lambda: not any(host["connected"] for host in cluster.api_hosts().values()), what="the head misses all")
    missed = [node for node in cluster.status()["nodes"] if not node["connected"]]
    assert missed and all("its agent is not connected" in node["reason"] for node in missed), "and says so"
    turned_away = network.turned_away
    wait_until(lambda: network.turned_away > turned_away + 3, what="they try again")
    network.restore()

    for job in jobs:
        done = cluster.wait_job(job, "succeeded")
        assert len(done["attempts"]) == 1
        assert cluster.cli("logs", job).stdout.split() == [str(n) for n in range(1, STEPS + 1)]
        ran = [host.run("sh", "-c", f"cat /tmp/ran-{job} 2>/dev/null; true") for host in hosts]
        assert sorted(ran) == ["", "", "once\n"]
    told = [f"{event['at']:.1f} {event['subject']} {event['text']}" for event in cluster.json("events")["events"]]
    nodes = {node["id"]: node for node in cluster.status()["nodes"]}
    assert set(nodes) == {"head-1", "cpu-1", "cpu-2", "cpu-3"}, "\n".join(told)
    wait_until(lambda: len(cluster.ready_nodes()) == 3, what="all are there again")
    events = cluster.json("events")["events"]
    assert not [event for event in events if event["code"] in ("fail", "gone", "terminate", "lost")]


STUBBORN = """
trap '' TERM
echo $CLUSTERCTL_ATTEMPT $(hostname) $(date +%s.%N) >> /tmp/began-$CLUSTERCTL_JOB_ID
[ $CLUSTERCTL_ATTEMPT = 1 ] || exit 0
while true; do date +%s.%N >> /tmp/alive-$CLUSTERCTL_JOB_ID; sleep 0.1; done
"""


def lines(host: SshHost, path: str) -> list[str]:
    return host.run("sh", "-c", f"cat {path} 2>/dev/null; true").splitlines()


@pytest.mark.timeout(480)  # the lease, what a node may take to end itself, and a tenth for clocks: 40 s
def test_whichever_way_a_network_is_cut_for_longer_than_the_lease_nothing_runs_twice(
    hosts: list[SshHost], cluster: SshCluster
) -> None:
    """One node hears its head and is not heard, another is heard and does not hear. Their jobs do not end when they are asked
    to. No packet says that the network is cut."""
    head, deaf, mute = hosts
    cluster.write(low=3, pool="idle_timeout: 10m, orphan_timeout: 5s")
    cluster.up()
    jobs = [cluster.submit("--", "sh", "-c", STUBBORN) for _ in hosts]
    for job in jobs:
        cluster.wait_job(job, "running")
    where = lambda job: next((host for host in hosts if lines(host, f"/tmp/alive-{job}")), None)  # noqa: E731
    places = {job: wait_until(lambda job=job: where(job), what="it runs") for job in jobs}
    assert len(set(places.values())) == 3
    (free,) = (job for job in jobs if places[job] is head)
    cluster.cli("job", "cancel", free)
    cluster.wait_job(free, "cancelled")  # there is room for both
    cut = [job for job in jobs if job != free]
    mute.lose(head.address)
    head.lose(deaf.address)
    try:
        for job in cut:
            done = cluster.wait_job(job, "succeeded")
            assert [attempt["state"] for attempt in done["attempts"]] == ["lost", "succeeded"]
            _, name, began = lines(head, f"/tmp/began-{job}")[0].split()
            last = lines(places[job], f"/tmp/alive-{job}")[-1]
            assert name == "host1" and float(last) < float(began), "the first try had ended before the second one began"
    finally:
        mute.deliver(head.address)
        head.deliver(deaf.address)
    wait_until(lambda: all(host["connected"] for host in cluster.api_hosts().values()), what="both are back")
    for job in cut:
        began = [line.split()[:2] for host in hosts for line in lines(host, f"/tmp/began-{job}")]
        assert began == [["2", "host1"], ["1", "host2" if places[job] is deaf else "host3"]]
        assert places[job].run("sh", "-c", f"pgrep -f /tmp/[a]live-{job}; true") == ""
    wait_until(lambda: len(cluster.ready_nodes()) == 3, what="both have a node again")
