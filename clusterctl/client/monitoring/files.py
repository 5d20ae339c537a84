"""The files by which a Prometheus and a Grafana are set up for a cluster, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from clusterctl.client.monitoring.board import board
from clusterctl.client.monitoring.gateway import HEAD_PATH, RAY_PATH

CONFIG, SCRAPES, RULES, TOKEN = "prometheus.yml", "scrapes.yml", "clusterctl.rules.yml", "token"
BOARD = "grafana/dashboards/clusterctl.json"
SOURCES, BOARDS = "grafana/provisioning/datasources/clusterctl.yml", "grafana/provisioning/dashboards/clusterctl.yml"
JOB, RAY_JOB = "clusterctl", "ray"  # the label `job` of what is scraped, which rules and panels name
INTERVAL_SECONDS = 15.0


def for_prometheus(cluster: str, port: int, token: str, seconds: float = INTERVAL_SECONDS) -> dict[str, str]:
    """File name -> text. `port`: of the gateway; `token`: what it wants to be shown, which is in the file `token` alone;
    `seconds`: between two scrapes."""
    every, patience = f"{round(seconds * 1000)}ms", f"{round(min(seconds, 10.0) * 1000)}ms"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": patience, "evaluation_interval": every},
        "rule_files": [RULES],
        "scrape_configs": _scrapes(cluster, port, every),
    }
    return {
        CONFIG: _yaml("A whole configuration: `prometheus --config.file=prometheus.yml`.", config),
        RULES: files("clusterctl.client.monitoring").joinpath(RULES).read_text(encoding="utf-8"),
        TOKEN: f"{token}\n",
    }


def for_ones_own(cluster: str, port: int, token: str, directory: Path, prometheus_url: str) -> dict[str, str]:
    """Those, what a Prometheus that has a configuration takes in, and Grafana's. `directory`: where all of it will lie;
    `prometheus_url`: where Grafana finds Prometheus."""
    about = "For `scrape_config_files:` of Prometheus 2.43 or newer; with an older one its entries go below `scrape_configs:`."
    scrapes = {"scrape_configs": _scrapes(cluster, port, f"{INTERVAL_SECONDS:g}s")}
    return {
        **for_prometheus(cluster, port, token),
        SCRAPES: _yaml(about, scrapes),
        BOARD: json.dumps(board(), indent=1) + "\n",
        SOURCES: _yaml("Where Grafana finds Prometheus.", _source(prometheus_url)),
        BOARDS: _yaml("Where Grafana finds the board.", _boards(directory)),
    }


def _scrapes(cluster: str, port: int, every: str) -> list[dict[str, Any]]:
    """The head by one target, which has its nodes' figures as well; Ray's own figures by one for each node."""
    shown = {
        "authorization": {"type": "Bearer", "credentials_file": TOKEN}
    }  # said twice: HTTP discovery has no default type
    address = f"127.0.0.1:{port}"
    head = {
        "job_name": f"clusterctl {cluster}",
        "metrics_path": HEAD_PATH,
        **shown,
        "static_configs": [{"targets": [address], "labels": {"job": JOB, "cluster": cluster, "instance": cluster}}],
    }
    ray = {
        "job_name": f"ray {cluster}",
        **shown,
        "http_sd_configs": [{"url": f"http://{address}{RAY_PATH}", "refresh_interval": every, **shown}],
        "relabel_configs": [
            {"target_label": "job", "replacement": RAY_JOB},
            {"target_label": "cluster", "replacement": cluster},
        ],
    }
    return [{"scrape_interval": every, **one} for one in (head, ray)]


def _source(url: str) -> dict[str, Any]:
    source = {"name": "Prometheus (clusterctl)", "type": "prometheus", "access": "proxy", "url": url}
    return {"apiVersion": 1, "datasources": [source]}


def _boards(directory: Path) -> dict[str, Any]:
    place = {"path": str(directory.absolute() / Path(BOARD).parent)}
    return {"apiVersion": 1, "providers": [{"name": "clusterctl", "type": "file", "options": place}]}


def _yaml(about: str, document: Mapping[str, Any]) -> str:
    text = yaml.dump(dict(document), Dumper=_Plain, sort_keys=False, width=120)
    return f"# Written by `clusterctl monitoring`. {about}\n{text}"


class _Plain(yaml.SafeDumper):
    """What occurs twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
