"""docs/rehearsing.md does what it says: its spec is run as a reader would."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from clusterctl_providers.fake.faults import KINDS

from tests.support.cluster import LocalCluster

PAGE = (Path(__file__).parents[2] / "docs" / "rehearsing.md").read_text()


def test_the_pages_spec_runs_and_its_misfortunes_happen(make_cluster: Callable[..., LocalCluster]) -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    cluster = make_cluster(found[1], name="rehearsal")
    cluster.up()
    (node,) = cluster.ready_nodes()
    assert (node["pool"], node["market"]) == ("cpu", "on-demand"), "spot was sold out"
    events = cluster.json("events")["events"]
    assert {"no_capacity", "unknown_outcome"} <= {event["code"] for event in events}
    head = [event for event in events if event["subject"] == "head-1"]
    assert {n["instance_id"] for n in cluster.status()["nodes"] if n["pool"] == "head"} and head
    assert len(cluster.status()["nodes"]) == 2, "the lost answer made no second machine"
    assert "it rained" in cluster.cli("submit", "--pool", "big", "--", "echo", "it rained").stdout
    cluster.down()
    assert cluster.processes() == []


def test_the_page_lists_every_fault_with_its_keys() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \|([^|]*)\|$", PAGE, re.MULTILINE))
    assert {kind: set(re.findall(r"`(\w+)`", keys)) for kind, keys in rows.items()} == {
        kind: set(keys) for kind, keys in KINDS.items()
    }
