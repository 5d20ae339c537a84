"""Where objects go that the object store has no room for."""

from __future__ import annotations

from pathlib import Path

from clusterctl_runtime.engine.command import EngineConfig, RayCommand
from clusterctl_runtime.engine.config import _store

from clusterctl.spec.load import parse_spec


def arguments(config: EngineConfig) -> list[str]:
    return RayCommand(config, Path("/node/engine"), Path("/tmp/short"), "mark").arguments()


def test_objects_are_spilled_to_the_nodes_disk_and_not_to_rays_own_directory() -> None:
    assert "--object-spilling-directory=/node/engine/spill" in arguments(EngineConfig())
    assert "--object-spilling-directory=/disk/of/node/spill" in arguments(EngineConfig(spill_dir="/disk/of/node"))


def test_a_place_that_the_spec_names_wins() -> None:
    told = arguments(EngineConfig(env={"RAY_object_spilling_directory": "/mnt/nvme"}))
    assert not [word for word in told if "spill" in word]


def test_the_size_of_the_object_store_is_the_specs_but_no_more_than_a_container_has_shared_memory_for() -> None:
    engine, pools = "engine: {ray: {object_store: 3GiB}}", "pools: [{name: cpu, max: 1, resources: {CPU: 1}}]"
    text = f"cluster: demo\nprovider: PROVIDER\n{engine}\n{pools}\n"
    local = parse_spec(text.replace("PROVIDER", "local"))
    assert _store(local, local.kind, 4 * 2**30) == 3 * 2**30
    docker = parse_spec(text.replace("PROVIDER", "docker"))
    assert _store(docker, docker.kind, 2 * 2**30) == int(0.9 * 2 * 2**30)
