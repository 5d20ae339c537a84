"""A cluster on real hosts with real sshd, from `up` to `down`."""

from __future__ import annotations

import json
import time

from tests.ssh.cluster import ROOT, USER, SshCluster, sshd_option, traces
from tests.support.cluster import wait_until
from tests.support.ssh_hosts import SshHost

WORKERS = ["sh", "-c", "hostname; id -un; sleep 2"]


def test_up_submit_autoscale_from_standby_and_down_leave_nothing(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.up()
    assert all(host["connected"] for host in cluster.api_hosts().values())
    status = cluster.status()
    assert status["state"] == "ready" and [node["pool"] for node in status["nodes"]] == ["head"]
    array = cluster.submit(
        "--array", "0-2", "--", *WORKERS
    )  # all at once: one host alone could be through with the first
    ids = [f"{array}.{index}" for index in range(3)]
    for job in ids:
        cluster.wait_job(job, "succeeded")
    said = {tuple(cluster.cli("logs", job).stdout.split()) for job in ids}
    assert {user for _, user in said} == {USER} and len({name for name, _ in said}) >= 2, said
    parked = [["head-1"], [], []]
    wait_until(lambda: [h["nodes"] for h in cluster.api_hosts().values()] == parked, what="idle nodes are parked again")
    assert all(host["connected"] for host in cluster.api_hosts().values())

    again = json.loads(cluster.cli("up", str(cluster.spec), "-y", "--json").stdout)
    assert again["head"] == "running" and not again["spec_changed"]

    cluster.down()
    assert [traces(host) for host in hosts] == [[], [], []]
    assert not cluster.place.exists()


def test_a_parked_host_becomes_a_node_without_a_login(cluster: SshCluster, hosts: list[SshHost]) -> None:
    """That is why it takes milliseconds: it is told over the connection that it holds."""
    cluster.write([hosts[1].address], more=f"engine: none\nhead: {{host: {hosts[0].address}}}")
    cluster.up()
    with sshd_option(hosts[1], f"DenyUsers {USER}", {}):
        job = cluster.submit("--pool", "cpu", "--", "hostname")
        cluster.wait_job(job, "succeeded")
        assert cluster.cli("logs", job).stdout == "host2\n"


def test_a_head_is_reached_where_sshd_forwards_no_ports(cluster: SshCluster, hosts: list[SshHost]) -> None:
    with sshd_option(hosts[0], "AllowTcpForwarding no", {}):
        cluster.up()
        said = cluster.cli("submit", "--", "python3", "-c", "print('x' * 200_000)").stdout
        assert said == "x" * 200_000 + "\n"
        cluster.down()


def test_what_an_earlier_head_wrote_of_itself_is_not_believed_of_another_process(
    cluster: SshCluster, hosts: list[SshHost]
) -> None:
    """After a restart its id may be anybody's, and its port: a token would go there."""
    cluster.up()
    path = f"{ROOT}/head/head.json"
    said = json.loads(hosts[0].run("cat", path))
    sleeper = hosts[0].run("sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!", user=USER).strip()
    hosts[0].write(path, json.dumps({**said, "pid": int(sleeper), "port": 1}).encode(), 0o600, USER)
    cluster.stop_tunnel()
    assert "no head runs on it" in cluster.cli("status", code=4).stderr
    hosts[0].write(path, json.dumps(said).encode(), 0o600, USER)
    assert cluster.status()["state"] == "ready"
    hosts[0].run("kill", sleeper)


def test_a_host_that_was_restarted_comes_back_by_itself(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.up()
    last = hosts[2]
    last.stop()
    wait_until(lambda: not cluster.api_hosts()[last.address]["connected"], what="the head misses the host")
    last.start()
    wait_until(lambda: cluster.api_hosts()[last.address]["connected"], what="cron's @reboot brought it back")


def test_a_job_survives_its_network_being_cut_for_less_than_the_lease(
    cluster: SshCluster, hosts: list[SshHost]
) -> None:
    """Nothing is lost and nothing runs twice."""
    cluster.write([hosts[1].address], more=f"engine: none\nhead: {{host: {hosts[0].address}}}", pool="idle_timeout: 5m")
    cluster.up()
    program = "for i in $(seq 40); do echo $i; sleep 0.25; done; echo once >> /tmp/ran"
    hosts[1].run("rm", "-f", "/tmp/ran")
    job = cluster.submit("--max-retries", "3", "--", "sh", "-c", program)
    wait_until(lambda: "5\n" in cluster.cli("logs", job, code=None).stdout, what="it runs")
    hosts[1].disconnect()
    time.sleep(3)  # the outage itself
    hosts[1].connect()
    done = cluster.wait_job(job, "succeeded")
    assert len(done["attempts"]) == 1
    assert hosts[1].run("cat", "/tmp/ran") == "once\n"
    assert cluster.cli("logs", job).stdout.split() == [str(n) for n in range(1, 41)]


def test_the_head_killed_comes_back_with_its_nodes_and_jobs(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.write(low=1)
    cluster.up()
    job = cluster.submit("--", "sleep", "3")
    cluster.wait_job(job, "running")
    pid = json.loads(hosts[0].run("cat", f"{ROOT}/head/head.json"))["pid"]
    hosts[0].run("kill", "-9", str(pid))
    wait_until(lambda: cluster.cli("status", code=None).returncode == 0, what="another head answers")
    assert len(cluster.wait_job(job, "succeeded")["attempts"]) == 1


def test_no_secret_is_in_a_command_line_or_a_log(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.write(low=1)
    cluster.up()
    secrets = [json.loads(host.run("cat", f"{ROOT}/host.json"))["token"] for host in hosts]
    secrets.append(json.loads((cluster.place / "client.json").read_text())["token"])
    secrets.append(hosts[0].run("cat", f"{ROOT}/head/join.secret").strip())
    for host in hosts:
        shown = host.run(
            "sh", "-c", f"cat /proc/*/cmdline /proc/*/environ {ROOT}/*.log {ROOT}/head/*.log 2>/dev/null; true"
        )
        assert not any(secret in shown for secret in secrets)
        modes = host.run("find", ROOT, "-maxdepth", "1", "-type", "f", "-perm", "/077").split()
        assert modes == []
    assert not any(secret in (cluster.place / "tunnel.log").read_text() for secret in secrets)


def test_hosts_come_and_go_with_the_spec(cluster: SshCluster, hosts: list[SshHost]) -> None:
    first, second, third = (host.address for host in hosts)
    cluster.write([first, second])
    cluster.up()
    job = cluster.submit("--", "sleep", "8")
    cluster.wait_job(job, "running")
    cluster.write([first, second, third])
    cluster.up()
    assert all(cluster.api_hosts()[name]["connected"] for name in (first, second, third))
    cluster.write([first, second])
    cluster.up()
    assert set(cluster.api_hosts()) == {first, second}
    assert traces(hosts[2]) == []
    assert len(cluster.wait_job(job, "succeeded")["attempts"]) == 1  # all this did not touch it


def test_a_cluster_on_hosts_ends_itself_and_is_started_again(cluster: SshCluster, hosts: list[SshHost]) -> None:
    """Its head's host is asked how it ended: the head had nobody to tell."""
    cluster.write(more="engine: none\nlifetime: {after_last_job: 1s}")
    cluster.up()
    assert cluster.cli("submit", "--submission-id", "one", "--", "echo", "hello").stdout == "hello\n"
    wait_until(lambda: cluster.json("list")["clusters"][0]["state"] == "ended", what="it has ended itself")
    kept = {
        "--host",
        "--keep",
        "--spare",
    }  # each host's own daemon, which waits for a head, and the agent that it has ready
    running = [
        line for host in hosts for line in traces(host) if line.startswith(USER) and not kept & set(line.split())
    ]
    assert running == []
    assert "kept on its head's host" in cluster.cli("jobs", code=4).stderr
    cluster.write()
    cluster.up()
    assert cluster.cli("logs", "one").stdout == "hello\n" and cluster.status()["state"] == "ready"
    cluster.down()
    assert [traces(host) for host in hosts] == [[], [], []]
