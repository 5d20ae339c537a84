"""A real Prometheus on a real cluster with Ray: what it scrapes, what the board asks it, and that nothing of it is left."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from clusterctl.client.monitoring.board import ROWS, Panel
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster, wait_until
from tests.support.prometheus import prometheus

SPEC = """\
cluster: demo
provider:
  fake:
    boot: local
    types:
      small: {CPU: 2, price: 0.36, spot_price: 0.12}
      large: {CPU: 2, GPU: 2, price: 0.72}
    faults: [{kind: no_capacity, offer: "gone/*"}]
limits: {budget: {per_day: 100}}
setup: ['case "$CLUSTERCTL_NODE_ID" in broken-*) exit 3;; esac']
pools:
  - {name: cpu, min: 1, max: 1, instances: [small], market: [on-demand], idle_timeout: 10m}
  - {name: gpu, min: 1, max: 1, instances: [large], market: [on-demand], idle_timeout: 10m}
  - {name: gone, min: 0, max: 1, instances: [small], market: [spot], idle_timeout: 10m}
  - {name: broken, min: 0, max: 1, instances: [small], market: [on-demand], idle_timeout: 10m}
"""
DRIVER = """\
#!/bin/sh
case "$*" in
  *--query-gpu=index,uuid,pci*)
    echo "0, GPU-00000000-0000-0000-0000-000000000000, 00000000:01:00.0, NVIDIA H200, 87, 143771, 70000, 64, 612.5, 3, 0"
    echo "1, GPU-11111111-1111-1111-1111-111111111111, 00000000:02:00.0, NVIDIA H200, 12, 143771, 1000, 41, 130.0, 0, 0" ;;
  *--query-compute-apps*) ;;
  *) echo "0, GPU-00000000-0000-0000-0000-000000000000"; echo "1, GPU-11111111-1111-1111-1111-111111111111" ;;
esac
"""
WINDOW = "30s"  # stands for Grafana's $__rate_interval: three looks of an agent
RAY = "import ray, time; ray.init(); ray.get(ray.remote(lambda: time.sleep(600)).remote())"


class Monitored(LocalCluster):
    """With a pretended driver of GPUs. `url`: of the Prometheus that looks at it; `began`: when the story did."""

    url = ""
    began = 0.0

    def ask(self, path: str, **query: Any) -> Any:
        with urllib.request.urlopen(f"{self.url}api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> dict[str, float]:
        """By instance, as they are now."""
        found = self.ask("query", query=expression)["result"]
        return {one["metric"].get("instance", ""): float(one["value"][1]) for one in found}

    def story(self, expression: str) -> list[dict[str, str]]:
        """The labels of what had a value at some time since the story began."""
        found = self.ask("query_range", query=expression, start=self.began, end=time.time(), step="1s")["result"]
        return [one["metric"] for one in found if any(math.isfinite(float(value)) for _, value in one["values"])]

    @contextmanager
    def monitoring(self, *args: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """`monitoring up` and what it said first."""
        process = self.start("monitoring", "up", "--json", *args)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """Watched from its first minute on, in which all happens that the board shows."""
    directory = tmp_path_factory.mktemp("monitoring")
    cluster = Monitored(directory, SPEC)
    driver = directory / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    driver.chmod(0o755)
    cluster.env["PATH"] = f"{driver.parent}{os.pathsep}{cluster.env['PATH']}"
    try:
        cluster.began = time.time()
        cluster.up()
        with cluster.monitoring("--prometheus", prometheus(), "--every", "1s") as (_, said):
            cluster.url = said["url"]
            busy = "import os, time\nwhile True: open('x', 'wb').write(os.urandom(1 << 20)); time.sleep(0.01)"
            cluster.submit("--pool", "cpu", "--", "sh", "-c", "exit 0")
            cluster.submit("--pool", "gpu", "--gpus", "1", "--cpus", "1", "--", "python3", "-c", busy)
            cluster.submit("--pool", "gone", "--", "true")
            cluster.submit("--pool", "broken", "--", "true")
            cluster.submit("--", "python", "-c", RAY)
            yield cluster
        cluster.down()
        assert cluster.processes() == []
    finally:
        cluster.clean_up()


def expressions() -> list[tuple[Panel, str, str]]:
    """(panel, expression as Prometheus is asked, what its lines are called)."""
    fillings = {"$cluster": "demo", "$pool": ".*", "$node": ".*", "$__rate_interval": WINDOW, "$__range": "1h"}

    def filled(expression: str) -> str:
        for name, value in fillings.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        return expression

    return [(panel, filled(e), named) for row in ROWS.values() for panel in row for e, named in panel.asks.items()]


def is_shown(panel: Panel, expression: str) -> bool:
    """XIDs are in the kernel's log alone, which a test writes nothing into; a machine without a network has no figures of it."""
    return "_xid_" not in expression and not (
        panel.title.startswith("Network") and set(psutil.net_if_stats()) == {"lo"}
    )


def test_every_panel_of_the_board_has_something_to_show_after_a_minute_in_which_it_happened(watched):
    lacking = [(panel, expression) for panel, expression, _ in expressions() if is_shown(panel, expression)]

    def rest() -> bool:
        lacking[:] = [(panel, expression) for panel, expression in lacking if not watched.story(expression)]
        return not lacking

    deadline = time.monotonic() + 150
    while not rest() and time.monotonic() < deadline:
        time.sleep(1.0)
    assert lacking == [], watched.cli("events").stdout


def test_the_lines_of_a_panel_are_called_by_labels_that_they_have(watched):
    for panel, expression, named in expressions():
        wanted = set(re.findall(r"{{(\w+)}}", named))
        for labels in watched.story(expression):
            assert wanted <= {name for name, value in labels.items() if value}, (panel.title, labels)


def test_every_expression_is_one_and_every_selector_finds_what_it_names(watched):
    for panel, expression, _ in expressions():
        assert watched.ask("format_query", query=expression), panel.title
        for selector in re.findall(r"\w+{[^}]*}", expression):
            metric = selector.partition("{")[0]
            if metric == "ALERTS" or not is_shown(panel, metric):
                continue
            named = set(re.findall(r"(\w+)!?=", selector))
            series = watched.ask("series", **{"match[]": metric})
            assert any(named <= one.keys() for one in series), (panel.title, selector)
            assert not any(name.startswith("exported_") for one in series for name in one), series[0]


def test_rays_own_figures_are_scraped_beside_those_of_the_head(watched):
    wait_until(lambda: len(watched.values('up{job="ray"} == 1')) == 3, what="Ray's figures of three nodes")
    assert set(watched.values('up{job="ray"}')) >= {"head-1", "cpu-1", "gpu-1"}
    assert watched.values("ray_node_cpu_count") and watched.values('up{job="clusterctl"}') == {"demo": 1.0}


def test_a_second_prometheus_of_the_cluster_is_refused_with_the_first_ones_process(watched):
    done = watched.cli("monitoring", "up", "--prometheus", prometheus(), code=1)
    assert "runs already" in done.stderr and re.search(r"process \d+", done.stderr)


def test_the_gateway_is_closed_to_whoever_has_no_token(watched):
    scraped = watched.ask("targets")["activeTargets"][0]["scrapeUrl"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(scraped, timeout=30)
    kept = watched.home / "monitoring" / "demo"
    token = (kept / "token").read_text().strip()
    secrets = (token, json.loads((watched.home / "clusters" / "demo" / "client.json").read_text())["token"])
    for path in (path for path in kept.rglob("*") if path.is_file() and path.name != "token"):
        assert not any(secret.encode() in path.read_bytes() for secret in secrets), path
    modes = {path.stat().st_mode & 0o777 for path in kept.rglob("token")}
    assert modes == {0o600}


def test_scrapes_go_on_when_the_head_was_started_again_on_another_port(watched):
    noted = watched.head_dir / "head.json"
    port = int(json.loads(noted.read_text())["port"])
    started = 'process_start_time_seconds{job="clusterctl"}'
    before = watched.values(started)
    assert before
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(watched.head_pid(), signal.SIGKILL)
        wait_until(lambda: is_listening(taken, port), what="the head's port for somebody else")
        wait_until(lambda: watched.values(started) not in (before, {}), what="figures of the next head")
    assert int(json.loads(noted.read_text())["port"]) != port


def is_listening(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
        sock.listen()
    except OSError:
        return False
    return True


def known_only(directory: Path) -> LocalCluster:
    """A cluster without a head."""
    cluster = LocalCluster(directory, SPEC)
    Registry(cluster.home).create("demo", provider="fake", engine="ray", spec_path=str(cluster.spec))
    return cluster


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_prometheus_ends_with_the_command_however_that_ends(tmp_path, number):
    cluster = known_only(tmp_path)
    process = cluster.start("monitoring", "up", "--prometheus", prometheus())
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    child = psutil.Process(process.pid).children()
    assert len(child) == 1 and url.startswith("http://127.0.0.1:"), url
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_until(lambda: not child[0].is_running(), what="the end of Prometheus")
