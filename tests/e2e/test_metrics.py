"""`/metrics` of a real head: Prometheus' own checker takes it in every situation, and it says what the page says."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from clusterctl_runtime.head.metrics.table import ENTRIES
from prometheus_client.parser import text_string_to_metric_families

from clusterctl.client.head.endpoint import connect, locate
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster, wait_until, with_packages
from tests.support.prometheus import promtool

SPEC = """
cluster: demo
provider:
  fake:
    boot: local
    boot_seconds: 0.1
    zones: [za]
    types:
      small: {CPU: 2, price: 5, spot_price: 2}
      big: {CPU: 4, GPU: 2, price: 40, gpu_type: H100}
      none: {CPU: 2, price: 1}
    faults: [{kind: no_capacity, offer: "dry/*"}]
engine: none
limits: {budget: {per_day: 1000}}
pools:
  - {name: cpu, min: 1, max: 2, instances: [small], market: [spot, on-demand]}
  - {name: gpu, max: 1, instances: [big]}
  - {name: dry, max: 1, instances: [none]}
"""
H100 = "NVIDIA H100 80GB HBM3"
DRIVER = f"""#!/bin/sh
case "$*" in
*mig.mode*) echo '{H100}, 81559, GPU-aa, Disabled'; echo '{H100}, 81559, GPU-bb, Disabled';;
*index*)
  echo '0, GPU-aa, 00000000:3B:00.0, {H100}, 43, 81559, 20480, 55, 312.45, 0, 0'
  echo '1, GPU-bb, 00000000:5E:00.0, {H100}, 0, 81559, 3, 31, [N/A], 2, 1';;
esac
"""
NAME = 'say "hi"\\n\nthere'
BURN = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 600"
# What cannot be had of every machine that tests: a network, a disk of its own, a kernel's log that may be read.
OF_SOME_MACHINES = re.compile("network|node_disk_read|node_disk_written|xid")


class Scrape:
    """The series of one look: `value` of the one that has these labels, None where there is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, /, **labels: str) -> float | None:
        found = [s.value for s in self.samples if s.name == f"clusterctl_{name}" and labels.items() <= s.labels.items()]
        return found[0] if found else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    directory = tmp_path_factory.mktemp("metrics")
    tool = directory / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(DRIVER)
    tool.chmod(0o755)
    with_packages(directory / "home")
    made = LocalCluster(directory, SPEC)
    made.env["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    try:
        made.up()
        yield made
    finally:
        made.clean_up()


def scrape(cluster: LocalCluster) -> Scrape:
    endpoint = locate(Registry(cluster.home).load(cluster.name))
    with closing(connect(endpoint, cluster.name)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {endpoint.token}"})
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Scrape(answer.read().decode())


def well(scraped: Scrape) -> Scrape:
    """Fails where promtool finds a fault in it."""
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=scraped.text, text=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return scraped


def until(cluster: LocalCluster, condition: Any) -> Scrape:
    """The first look that fulfils it."""
    found: list[Scrape] = []

    def fulfilled() -> bool:
        found.append(scrape(cluster))
        return bool(condition(found[-1]))

    wait_until(fulfilled)
    return found[-1]


@pytest.fixture(scope="module")
def busy(cluster: LocalCluster) -> tuple[Scrape, str]:
    """A look at the cluster while a job burns a GPU's node, others wait and one was refused; and that job's id."""
    well(scrape(cluster))
    cluster.cli("job", "cancel", "--all", "-y", code=None)  # of an earlier try
    job = cluster.submit("--gpus", "1", "--name", NAME, "--user", 'ann "x"', "--", "sh", "-c", BURN)
    for waiting in (["--cpus", "99"], ["--pool", "dry"], ["--after", job]):
        cluster.submit(*waiting, "--", "true")
    cluster.submit("--", "true")

    def all_there(seen: Scrape) -> Any:
        used = seen.value("job_cpu_seconds_total", job_id=job)
        reasons = {s.labels["reason"] for s in seen.samples if s.name == "clusterctl_queue_jobs" and s.value}
        ended = seen.value("attempts_total", outcome="succeeded")
        return (
            bool(used and ended)
            and seen.value("launch_refusals_total", pool="dry", reason="no_capacity")
            and len(reasons) > 2
        )

    return well(until(cluster, all_there)), job


def test_each_metric_of_the_page_is_told_and_no_other(busy: tuple[Scrape, str]) -> None:
    families = {
        family.name if family.type != "counter" else f"{family.name}_total" for family in busy[0].families.values()
    }
    assert {name for name in families if not name.startswith("process_")} == set(ENTRIES)
    told = {sample.name for sample in busy[0].samples}
    silent = {name for name in ENTRIES if not {name, f"{name}_count"} & told and not OF_SOME_MACHINES.search(name)}
    assert silent <= {"clusterctl_oldest_launch_timestamp_seconds"}, "of which nothing may be to be told at that moment"
    kinds = {name: busy[0].families[name.removesuffix("_total")].type for name in ENTRIES}
    assert kinds == {name: entry.kind for name, entry in ENTRIES.items()}
    for sample in busy[0].samples:
        if (entry := ENTRIES.get(sample.name)) is not None:
            assert set(sample.labels) == set(entry.labels), sample


def test_nodes_money_queue_and_decisions_are_what_they_are(busy: tuple[Scrape, str]) -> None:
    seen, _ = busy
    assert seen.value("nodes", pool="cpu", market="spot", state="ready") == 1
    assert seen.value("nodes", pool="cpu", market="on-demand", state="ready") == 0
    assert seen.value("price_dollars_per_hour", pool="gpu") == 40
    assert seen.value("user_price_dollars_per_hour", user='ann "x"') == 20, "half of the GPUs"
    spent = sum(s.value for s in seen.samples if s.name == "clusterctl_spend_dollars_total")
    assert seen.value("budget_spent_dollars", period="month") == pytest.approx(spent)
    assert (
        seen.value("budget_limit_dollars", period="day") == 1000
        and seen.value("budget_limit_dollars", period="month") is None
    )
    waiting = {s.labels["reason"]: s.value for s in seen.samples if s.name == "clusterctl_queue_jobs"}
    assert sum(waiting.values()) == seen.value("jobs", state="queued") == 3
    assert waiting["too_large"] == waiting["dependency"] == 1
    for name in ("job_wait_seconds_count", "node_start_seconds_count", "launches_total"):
        assert (seen.value(name, pool="gpu") or 0) >= 1, name
    assert seen.value("provider_errors_total", provider="fake", call="create", reason="no_capacity")
    assert seen.value("decisions_total", action="launch", reason="demand")
    oldest = seen.value("queue_oldest_timestamp_seconds")
    assert oldest is not None and 0 <= (seen.value("node_heard_timestamp_seconds", node="gpu-1") or 0) - oldest < 600


def test_agents_tell_of_machines_gpus_and_jobs(busy: tuple[Scrape, str]) -> None:
    seen, job = busy
    gpu = {"node": "gpu-1", "pool": "gpu", "gpu": "0"}
    assert (
        seen.value("gpu_utilization_ratio", **gpu) == 0.43
        and seen.value("gpu_power_watts", **{**gpu, "gpu": "1"}) is None
    )
    assert seen.value("gpu_info", **gpu, uuid="GPU-aa", name=H100) == 1
    assert seen.value("gpu_ecc_errors_total", **{**gpu, "gpu": "1"}, kind="uncorrected") == 1
    assert seen.value("node_gpu_trouble", node="gpu-1") == 0
    assert seen.value("job_gpu_share_ratio", **gpu, job_id=job) == 1
    assert seen.value("job_info", job_id=job, name=NAME, user='ann "x"') == 1
    assert seen.value("job_processes", job_id=job, node="gpu-1") == 1
    assert seen.value("node_disk_free_bytes", node="cpu-1", place="root")
    size, used = (seen.value(f"node_memory_{what}_bytes", node="cpu-1") for what in ("size", "used"))
    assert size and used and size > used > 2**20


def test_what_a_job_used_is_not_told_any_more_once_it_has_ended(
    cluster: LocalCluster, busy: tuple[Scrape, str]
) -> None:
    job = busy[1]
    cluster.cli("job", "cancel", job)
    after = well(until(cluster, lambda seen: seen.value("job_info", job_id=job) is None))
    assert not [sample for sample in after.samples if sample.labels.get("job_id") == job]
    assert after.value("user_spend_dollars_total", user='ann "x"')
    until(cluster, lambda seen: seen.value("attempts_total", outcome="cancelled"))
