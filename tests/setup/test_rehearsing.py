"""docs/rehearsing.md does what it says: its spec is run as a reader would."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from clusterctl_providers.fake.faults import KINDS

from tests.docs.blocks import Block, blocks_of, commands_in, lines_of
from tests.support.cluster import LocalCluster

PAGE = (Path(__file__).parents[2] / "docs" / "rehearsing.md").read_text()


def test_the_pages_spec_runs_and_its_misfortunes_happen(make_cluster: Callable[..., LocalCluster]) -> None:
    blocks = list(blocks_of(PAGE, "docs/rehearsing.md"))
    spec = next(block.text for block in blocks if block.language == "yaml")
    cluster = make_cluster(spec, name="rehearsal")
    (cluster.directory / "rehearsal.yaml").write_text(spec)
    commands = iter([command for block in blocks if block.language == "console" for command in words_of(block)])
    said = {"up": cluster.cli(*next(commands), "-y").stdout}
    (node,) = cluster.ready_nodes()
    assert (node["pool"], node["market"]) == ("cpu", "on-demand"), "spot was sold out"
    assert len(cluster.status()["nodes"]) == 2, "the lost answer made no second machine"
    for words in commands:
        last = words[0] == "down"
        said[words[0]] = cluster.cli(*words, *(["-y"] if last else [])).stdout  # nobody is there to be asked
        if last:
            break
    assert "no_capacity" in said["events"] and "unknown_outcome" in said["events"]
    assert "sold out" in said["offers"] or "small" in said["offers"]
    assert "big-1" in said["explain"]
    assert cluster.processes() == []


def words_of(block: Block) -> list[tuple[str, ...]]:
    """The commands of ours, without `clusterctl`."""
    return [command.words for line in lines_of(block) for command in commands_in(line)]


def test_the_page_lists_every_fault_with_its_keys() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \|([^|]*)\|$", PAGE, re.MULTILINE))
    assert {kind: set(re.findall(r"`(\w+)`", keys)) for kind, keys in rows.items()} == {
        kind: set(keys) for kind, keys in KINDS.items()
    }
