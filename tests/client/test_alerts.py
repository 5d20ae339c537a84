"""The alerts: what fires and what does not, by promtool, and that what they say to do can be done."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from clusterctl_runtime.head.metrics.table import ENTRIES

from clusterctl.cli import main
from clusterctl.client.monitoring import files
from tests.support.prometheus import promtool

RULES = Path(files.__file__).with_name(files.RULES)
CASES = Path(__file__).with_name("alert_cases.yml")
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_alerts_fire_and_are_silent_as_their_cases_say():
    done = subprocess.run([promtool(), "test", "rules", CASES.name], cwd=CASES.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([promtool(), "check", "rules", str(RULES)], capture_output=True).returncode == 0


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent():
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for alert in ALERTS:
        fires = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert["alert"]}
        assert fires == {True, False}, alert["alert"]


def commands() -> list[str]:
    texts = " ".join(text for alert in ALERTS for text in alert["annotations"].values())
    return sorted(set(re.findall(r"`(clusterctl [^`]+)`", re.sub(r"{{[^}]*}}", "demo", " ".join(texts.split())))))


@pytest.mark.parametrize("command", commands())
def test_the_commands_that_alerts_name_can_be_typed(command):
    _, *words = shlex.split(command)
    found, context = typer.main.get_command(main.app), None
    while words and hasattr(found, "get_command") and not words[0].startswith("-"):
        context = found.make_context(words[0], [], parent=context, resilient_parsing=True)
        found = found.get_command(context, words[0])
        assert found is not None, command
        words = words[1:]
    with found.make_context("last", words, parent=context):
        pass


def test_alerts_look_at_figures_that_the_head_has():
    for alert in ALERTS:
        for name in re.findall(r"clusterctl_\w+", alert["expr"]):
            assert name in ENTRIES, (alert["alert"], name)
        used = set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"])))
        labels = {label for name in re.findall(r"clusterctl_\w+", alert["expr"]) for label in ENTRIES[name].labels}
        assert used <= labels | {"cluster"}, alert["alert"]
