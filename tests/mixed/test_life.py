"""A cluster with pools of two providers, from `up` to `down`, as its user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable

from clusterctl.client.registry import Registry
from tests.mixed.conftest import CPU, FAR, spec
from tests.support.cluster import LocalCluster, wait_until

Make = Callable[[str], LocalCluster]


def nodes_of(cluster: LocalCluster, pool: str) -> list[str]:
    return [node["id"] for node in cluster.ready_nodes(pool)]


def test_both_providers_nodes_come_up_work_and_are_gone_after_down(cluster_of: Make) -> None:
    cluster = cluster_of(spec(CPU, FAR))
    plan = cluster.json("plan", str(cluster.spec))
    assert plan["notes"] == ["pool far: it is not in the head's network (its provider is fake, the head's local)"]
    cluster.up()
    providers = {node["pool"]: node["provider"] for node in cluster.status()["nodes"]}
    assert providers == {"head": "local", "cpu": "local", "far": "fake"}
    for pool in ("cpu", "far"):
        job = cluster.submit("--pool", pool, "--cpus", "1", "--", "sh", "-c", "true")
        ended = cluster.wait_job(job, "succeeded")
        assert ended["attempts"][-1]["nodes"][0].startswith(f"{pool}-")
    (node,) = nodes_of(cluster, "far")
    assert cluster.cli("exec", node, "--", "pwd").stdout.strip()
    uid = Registry(cluster.home, {}).load(cluster.name).uid
    assert uid not in {stray["uid"] for stray in cluster.json("gc")["strays"]}, "somebody looks after both"
    cluster.down()
    wait_until(lambda: not cluster.processes(), what="nothing of it runs")


def test_a_job_that_says_no_pool_goes_to_the_cheapest_whoever_provides_it(cluster_of: Make) -> None:
    near = CPU.replace("min: 1, ", "").replace("{CPU: 1}", "{CPU: 1, near: 1}")
    cluster = cluster_of(spec(near, FAR.replace("min: 1, ", "")))
    cluster.up()
    both = cluster.wait_job(cluster.submit("--cpus", "1", "--", "true"), "succeeded")
    assert both["attempts"][-1]["nodes"][0].startswith("cpu-")  # at no cost, against $0.10/h
    offers = {row["pool"] for row in cluster.json("offers")["offers"]}
    assert offers == {"head", "cpu", "far"}


def test_a_provider_that_joins_a_running_cluster_is_ended_with_it_though_its_pool_left_and_its_head_died(
    cluster_of: Make,
) -> None:
    cluster = cluster_of(spec(CPU))
    cluster.up()
    (before,) = nodes_of(cluster, "cpu")
    cluster.spec.write_text(spec(CPU, FAR))
    cluster.up()
    assert nodes_of(cluster, "far") and nodes_of(cluster, "cpu") == [before]
    head = cluster.head_pid()
    cluster.kill(head)
    wait_until(lambda: cluster.head_pid() != head and cluster.cli("status", code=None).returncode == 0)
    assert nodes_of(cluster, "cpu") == [before]  # neither provider takes the other's nodes for strays
    cluster.spec.write_text(spec(CPU))
    cluster.cli("up", str(cluster.spec), "-y")
    kept = json.loads((cluster.head_dir / "providers.json").read_text())
    assert list(kept) == ["fake"]
    for process in cluster.processes():
        if any("head" in argument for argument in process.cmdline()):
            process.kill()
    cluster.down()
    wait_until(lambda: not cluster.processes(), what="nothing of it runs")


def test_a_provider_that_was_used_is_not_looked_for_elsewhere_before_down(cluster_of: Make) -> None:
    cluster = cluster_of(spec(CPU, FAR.replace("min: 1, ", "")))
    cluster.up()
    cluster.spec.write_text(spec(CPU))
    cluster.up()
    elsewhere = FAR.replace("boot: local", f"boot: local, directory: {cluster.directory}/other").replace("min: 1, ", "")
    cluster.spec.write_text(spec(CPU, elsewhere))
    said = cluster.cli("up", str(cluster.spec), "-y", code=None)
    assert said.returncode and "this cluster has used provider 'fake' with directory None" in said.stderr
