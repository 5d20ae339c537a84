"""Hosts of a cluster that no home knows any more: adopted with all that it has, cleaned when it is dead, never by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.down import host_owners
from clusterctl.client.registry import Registry
from clusterctl.client.specfile import read_spec
from tests.ssh.cluster import ROOT, SshCluster, traces
from tests.support.cluster import wait_until
from tests.support.ssh_hosts import SshHost, wait_for_sshd


def lose_home(cluster: SshCluster) -> None:
    """The laptop is gone: its home, and the tunnel that ran there."""
    shutil.rmtree(cluster.home)
    cluster.write(auth=", host_keys: accept-new")
    wait_until(lambda: not cluster.processes(), what="the tunnel has noticed that its cluster is forgotten")


def adopt(cluster: SshCluster) -> list[dict[str, Any]]:
    """What `list --adopt SPEC` found on hosts; this machine may have clusters of other tests."""
    found = json.loads(cluster.cli("list", "--adopt", str(cluster.spec), "--json").stdout)["found"]
    return [one for one in found if one["provider"] == "ssh"]


def clean(
    cluster: SshCluster, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
) -> tuple[list[host_owners.Stray], list[str]]:
    """`gc SPEC`, as if half an hour had passed."""
    monkeypatch.setattr(host_owners, "SILENT_SECONDS", 0.0)
    monkeypatch.setenv("HOME", str(cluster.user_home))
    told: list[str] = []
    home = Registry(cluster.home)
    cluster.home.mkdir(exist_ok=True)
    return host_owners.clean_hosts(home, read_spec(cluster.spec), set(), told.append, dry_run=dry_run), told


def test_a_lost_home_is_replaced_and_nothing_of_the_cluster_is_lost(cluster: SshCluster, hosts: list[SshHost]) -> None:
    cluster.write(low=1, auth=", host_keys: accept-new")
    cluster.up()
    uid = cluster.status()["uid"]
    job = cluster.submit("--", "sleep", "8")
    cluster.wait_job(job, "running")
    lose_home(cluster)

    strays = json.loads(cluster.cli("gc", str(cluster.spec), "--dry-run", "--json").stdout)["strays"]
    assert uid not in [stray["uid"] for stray in strays], "its head runs"
    cluster.write(low=1, auth=", host_keys: accept-new")
    found = adopt(cluster)
    assert [(one["name"], one["uid"], one["adopted"], one["lost"]) for one in found] == [("demo", uid, True, [])]
    assert sorted(found[0]["nodes"]) == sorted(host.address for host in hosts)

    wait_until(lambda: cluster.cli("status", code=None).returncode == 0, what="its head obeys this home")
    assert len(cluster.wait_job(job, "succeeded")["attempts"]) == 1
    cluster.up()
    assert all(host["connected"] for host in cluster.api_hosts().values())
    assert cluster.status()["uid"] == uid
    cluster.down()
    assert [traces(host) for host in hosts] == [[], [], []]


def test_only_the_specs_own_cluster_is_adopted(cluster: SshCluster, hosts: list[SshHost], tmp_path: Path) -> None:
    cluster.up()
    (tmp_path / "other").mkdir()
    other = SshCluster(tmp_path / "other", hosts, name="other")
    assert [(one["name"], one["adopted"]) for one in adopt(other)] == [("demo", False)]
    assert cluster.status()["state"] == "ready"


def test_gc_cleans_hosts_of_a_dead_cluster_and_leaves_one_that_lives(
    cluster: SshCluster, hosts: list[SshHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.up()
    lose_home(cluster)
    assert clean(cluster, monkeypatch, dry_run=False)[0] == []  # its head lives
    assert traces(hosts[0])

    kill = f"pkill -9 -u tester -f 'pyz --keep'; pkill -9 -u tester -f {ROOT}/head; true"
    hosts[0].run("sh", "-c", kill)
    wait_until(
        lambda: hosts[1].run("sh", "-c", f"ls {ROOT} | grep -c silent; true").strip() == "1", what="it is missed"
    )
    wait_until(lambda: clean(cluster, monkeypatch, dry_run=True)[0], what="its hosts have noticed")
    hosts[2].stop()
    try:
        strays, _ = clean(cluster, monkeypatch, dry_run=False)
    finally:
        hosts[2].start()
        wait_for_sshd([hosts[2]])
    assert [(s.cluster, sorted(s.instance_ids), s.removed) for s in strays if s.uid] == [
        ("demo", sorted(host.address for host in hosts[:2]), True)
    ]
    assert [hosts[2].address in s.error for s in strays if s.error] == [True]
    assert [traces(host) for host in hosts[:2]] == [[], []]


def test_a_host_that_is_gone_for_good_is_given_up_by_name_and_cleaned_if_it_returns(
    cluster: SshCluster, hosts: list[SshHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.up()
    gone = hosts[2]
    gone.stop()
    try:
        assert gone.address in cluster.cli("down", "demo", "-y", "--abandon", "node99", code=2).stderr
        said = cluster.cli("down", "demo", "-y", "--abandon", gone.address).stderr
        assert f"host {gone.address} is given up" in said
    finally:
        gone.start()
        wait_for_sshd([gone])
    assert not cluster.place.exists() and traces(gone) != []
    assert [traces(host) for host in hosts[:2]] == [[], []]
    wait_until(lambda: clean(cluster, monkeypatch, dry_run=True)[0], what="its daemon has found no head")
    strays, _ = clean(cluster, monkeypatch, dry_run=False)
    assert [stray.removed for stray in strays] == [True]
    assert traces(gone) == []
