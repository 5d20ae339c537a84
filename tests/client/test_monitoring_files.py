"""The files of `clusterctl monitoring`, and what it says where it cannot do what was asked; without a head."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterctl_runtime.head.metrics.table import ENTRIES

from clusterctl.client.monitoring.board import COLUMNS, ROWS, board
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster
from tests.support.prometheus import promtool

GIVEN = {"cluster", "job", "instance"}  # by what scrapes the head
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}  # of Python's client


@pytest.fixture
def known(tmp_path: Path) -> LocalCluster:
    """A cluster that is known here and has no head."""
    cluster = LocalCluster(tmp_path, "cluster: demo\nprovider: local\npools: [{name: cpu, max: 1}]\n")
    Registry(cluster.home).create("demo", provider="local", engine="ray", spec_path=str(cluster.spec))
    return cluster


def parts(document: Any) -> Iterator[Any]:
    """All that is in it, however deep."""
    yield document
    for part in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from parts(part)


# ------------------------------------------------------------ the board


def test_panels_have_ids_and_places_of_their_own():
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == sum(1 + len(row) for row in ROWS.values())
    places = [panel["gridPos"] for panel in panels]
    fields = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < COLUMNS


def test_the_board_asks_whichever_prometheus_is_chosen():
    made = board()
    assert isinstance(made["schemaVersion"], int) and made["title"] and json.loads(json.dumps(made)) == made
    sources = [part["datasource"] for part in parts(made) if isinstance(part, dict) and "datasource" in part]
    assert sources and all(source["uid"] == "${datasource}" for source in sources)
    names = {variable["name"]: variable for variable in made["templating"]["list"]}
    assert names["datasource"]["type"] == "datasource" and set(names) == {"datasource", "cluster", "pool", "node"}
    used = set(re.findall(r"\$(\w+)", json.dumps([panel.get("targets") for panel in made["panels"]])))
    assert used <= {*names, "__rate_interval", "__range"}
    for panel in made["panels"]:
        assert panel["type"] == "row" or (panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]), panel["title"]


def test_the_board_names_figures_of_the_head_with_labels_that_they_have():
    queries = [variable["query"]["query"] for variable in board()["templating"]["list"][1:]]
    expressions = [expression for row in ROWS.values() for panel in row for expression in panel.asks]
    for expression in (*expressions, *queries):
        names = set(re.findall(r"\b(?:clusterctl|process)_\w+", expression))
        names = {name for name in names if not name.startswith("clusterctl.")}
        plain = {re.sub(r"_bucket$|_count$|_sum$", "", name) if name not in ENTRIES else name for name in names}
        assert plain <= ENTRIES.keys() | PROCESS, expression
        for metric, inside in re.findall(r"(clusterctl_\w+){([^}]*)}", expression):
            entry = ENTRIES.get(metric) or ENTRIES[re.sub(r"_bucket$|_count$", "", metric)]
            assert set(re.findall(r"(\w+)\s*!?=", inside)) <= {*entry.labels, *GIVEN}, expression


# ------------------------------------------------------------ what is written


def test_prometheus_takes_its_file_and_the_token_is_in_one_of_its_own(known):
    said = known.json("monitoring", "files", "m")
    made = known.directory / "m"
    paths = [known.directory / name for name in said["files"]]
    assert (
        sorted(paths) == sorted(path for path in made.rglob("*") if path.is_file()) and said["files"] == said["written"]
    )
    secret = made / "token"
    assert secret.stat().st_mode & 0o777 == 0o600
    token = secret.read_text().strip()
    assert len(token) > 30 and not any(token in path.read_text() for path in paths if path != secret)
    checked = subprocess.run(
        [promtool(), "check", "config", str(made / "prometheus.yml")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    whole, scrapes = (yaml.safe_load((made / name).read_text()) for name in ("prometheus.yml", "scrapes.yml"))
    for one in (*whole["scrape_configs"], *scrapes["scrape_configs"]):
        one.pop("scrape_interval")
        for discovery in one.get("http_sd_configs", ()):
            discovery.pop("refresh_interval")
    assert whole["scrape_configs"] == scrapes["scrape_configs"] and "&id" not in (made / "scrapes.yml").read_text()
    assert said["address"] in whole["scrape_configs"][0]["static_configs"][0]["targets"]
    provider = yaml.safe_load((made / "grafana/provisioning/dashboards/clusterctl.yml").read_text())["providers"][0]
    assert [path.name for path in Path(provider["options"]["path"]).iterdir()] == ["clusterctl.json"]


def test_files_that_differ_are_left_alone_unless_forced(known):
    known.cli("monitoring", "files", "m")
    assert known.json("monitoring", "files", "m")["written"] == []
    changed = known.directory / "m" / "clusterctl.rules.yml"
    changed.write_text("groups: []\n")
    (known.directory / "m" / "scrapes.yml").unlink()
    done = known.cli("monitoring", "files", "m", code=2)
    assert "clusterctl.rules.yml would be overwritten" in done.stderr and "--force" in done.stderr
    assert not (known.directory / "m" / "scrapes.yml").exists()
    written = known.json("monitoring", "files", "m", "--force")["written"]
    assert written == ["m/clusterctl.rules.yml", "m/scrapes.yml"] and changed.read_text() != "groups: []\n"


# ------------------------------------------------------------ what cannot be done


def test_a_prometheus_that_is_not_there_is_told_with_how_to_get_one(known):
    known.env["PATH"] = str(known.directory)
    done = known.cli("monitoring", "up", code=1)
    assert "no `prometheus` on the PATH" in done.stderr and "apt install prometheus" in done.stderr
    done = known.cli("monitoring", "up", "--prometheus", "nowhere/prometheus", code=1)
    assert "no program is at nowhere/prometheus" in done.stderr


@pytest.mark.parametrize(
    ("says", "told"),
    [("hello", "does not say that it is a Prometheus"), ("prometheus, version 2.24.1", "2.28 is needed")],
)
def test_another_program_and_an_old_prometheus_are_told_apart_before_anything_runs(known, says, told):
    program = known.directory / "prometheus"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    assert told in known.cli("monitoring", "up", "--prometheus", str(program), code=1).stderr


def test_a_prometheus_that_does_not_start_is_told_with_the_end_of_its_log(known):
    program = known.directory / "prometheus"
    program.write_text(
        '#!/bin/sh\ncase $1 in --version) echo "prometheus, version 3.5.0";; *) echo "no such disk" >&2; exit 3;; esac\n'
    )
    program.chmod(0o755)
    done = known.cli("monitoring", "up", "--prometheus", str(program), code=1)
    assert "ended with code 3" in done.stderr and "no such disk" in done.stderr


def test_the_way_for_ones_own_prometheus_is_at_the_address_of_the_files_and_says_what_is_wrong(known):
    said = known.json("monitoring", "files", "m")
    token = (known.directory / "m" / "token").read_text().strip()
    host, _, port = said["address"].partition(":")
    with socket.create_server((host, int(port))):
        done = known.cli("monitoring", "up", "--no-prometheus", code=1)
        assert f"cannot listen on {said['address']}" in done.stderr and "monitoring files --port" in done.stderr
    process = known.start("monitoring", "up", "--no-prometheus", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"cluster": "demo", "address": said["address"]}
        answers = [ask(said["address"], path, token) for path in ("/metrics", "/ray", "/ray/cpu-1", "/elsewhere")]
        assert [status for status, _ in answers] == [502, 502, 404, 404]
        assert "its `up` was interrupted" in answers[0][1]
        assert ask(said["address"], "/metrics", "another")[0] == 401
        registry = Registry(known.home)
        registry.forget(registry.load("demo"))
        status, text = ask(said["address"], "/metrics", token)
        assert status == 502 and "is not known here any more" in text
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0 and told.count("no figures at this moment") == 1


def ask(address: str, path: str, token: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {token}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    return refused.value.code, refused.value.read().decode()


def test_what_cannot_be_is_told_in_its_order_and_nothing_of_it_is_kept(known: LocalCluster):
    assert "no cluster named 'other'" in known.cli("monitoring", "up", "-c", "other", code=3).stderr
    for url in ("nonsense", "http://x\n  evil: y", "http:///x"):
        assert "it is no URL" in known.cli("monitoring", "files", "d", "--prometheus-url", url, code=2).stderr
    silent = known.directory / "silent"
    silent.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "prometheus, version 2.42.0" && exit 0\nexit 7\n')
    silent.chmod(0o700)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "in use" in known.cli("monitoring", "up", "--prometheus", str(silent), "--port", port, code=1).stderr
    ports = known.home / "monitoring" / "demo" / "ports.json"
    assert port not in (ports.read_text() if ports.exists() else ""), "it would be tried the next time, too"
    said = known.cli("monitoring", "up", "--prometheus", str(silent), code=1).stderr
    assert "it ended with code 7. It said nothing." in said
