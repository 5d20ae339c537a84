"""What a raylet is started with is what the planner bought the node for."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.engine.command import RayCommand
from clusterctl_runtime.engine.config import worker_config
from clusterctl_runtime.engine.demand import shape_of
from clusterctl_runtime.head.nodes.ledger import NodeLedger

from clusterctl.core.model import Node, NodeState, Offer
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.selectors import accepts, kind_of_offer
from clusterctl.spec.load import parse_spec
from clusterctl.spec.to_core import core_pools

SPEC = parse_spec("cluster: demo\nprovider: local\npools: [{name: gpu, max: 2, labels: {team: vision}}]\n", "demo.yaml")
POOL = core_pools(SPEC)[1]
OFFER = Offer(
    "gpu", "g6.xlarge", "spot", "eu-1a", 0.5, Resources.of(CPU=4, GPU=1), POOL.labels, gpu_type="L4", region="eu-1"
)
SELECTORS = {
    "ray.io/accelerator-type": "L4",
    "ray.io/node-group": "gpu",
    "ray.io/market-type": "spot",
    "ray.io/availability-region": "eu-1",
    "ray.io/availability-zone": "in(eu-1a,eu-1b)",
    "team": "!nlp",
}


@pytest.mark.parametrize("label", SELECTORS)
def test_a_raylet_has_every_label_for_which_its_node_is_bought(tmp_path: Path, label: str) -> None:
    asked = shape_of({"resources": {"GPU": 1.0}, "selectors": {label: SELECTORS[label]}})
    assert asked is not None and accepts(kind_of_offer(OFFER, POOL, frozenset(SELECTORS)), asked)
    (tmp_path / "token").write_text("0" * 64)
    node = Node("gpu-1", 1, "t", OFFER, NodeState.JOINING, 0.0, 0.0)
    books = NodeLedger(node.id, 1, OFFER.resources)
    config = worker_config(SPEC, node, books, tmp_path / "token", "127.0.0.1:1", "", "", {})
    expected = {"ray.io/availability-zone": "eu-1a", "team": "vision"}.get(label, SELECTORS[label])
    assert config.node_labels[label] == expected
    command = RayCommand(config, tmp_path, tmp_path, "m")
    assert f'"{label}": "{expected}"' in command.environment()["RAY_OVERRIDE_LABELS"]
    assert any('"accelerator_type:L4": 1' in argument for argument in command.arguments())
