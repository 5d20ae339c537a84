"""`init --from` a task of SkyPilot. The schema in its wheel says what a task is."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from clusterctl.cli.verbs.spec_files import known_names
from clusterctl.core.errors import UsageError
from clusterctl.importing import skypilot, skypilot_resources
from clusterctl.importing.draft import Imported
from clusterctl.importing.given import read_given
from clusterctl.importing.paths import Moved
from clusterctl.importing.read import convert
from clusterctl.spec.load import parse_places
from tests.importing.sky_tasks import REFUSED, TASKS


@cache
def schemas() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("skypilot-schema.json").read_text())


def read(text: str, provider: str = "") -> Imported:
    return convert(text, "t.yaml", Moved("/here", "/here"), read_given(provider), "x", known_names)


def spec_of(name: str) -> dict[str, Any]:
    return yaml.safe_load(read(TASKS[name]).texts["cluster.yaml"])


@pytest.mark.parametrize("name", TASKS)
def test_the_tasks_here_are_such_as_skypilot_takes_and_become_specs(name: str) -> None:
    task = yaml.safe_load(TASKS[name])
    Draft202012Validator(schemas()["task"]).validate(task)
    Draft7Validator(schemas()["resources"]).validate(task["resources"])
    found = read(TASKS[name])
    assert parse_places(found.texts["cluster.yaml"]).each[0].spec.ray is None


def test_every_key_that_skypilot_knows_is_known() -> None:
    assert set(skypilot.KEYS) == set(schemas()["task"]["properties"])
    assert set(skypilot_resources.RESOURCE_KEYS) == set(schemas()["resources"]["properties"])


def test_a_task_on_several_nodes_is_a_pool_a_script_and_a_command() -> None:
    found = read(TASKS["nodes"])
    spec = yaml.safe_load(found.texts["cluster.yaml"])
    assert spec["cluster"] == "train-llama"
    assert spec["provider"] == {"aws": {"region": "us-east-1", "tags": {"team": "nlp"}}}
    assert spec["pools"] == [
        {"name": "h100", "max": 2, "gpu": {"name": "H100", "count": 8}, "disk": "512GiB", "market": ["spot"]}
    ]
    assert spec["lifetime"] == {"idle": "10m"} and spec["env"] == {"MODEL": "llama", "BUCKET": "my-bucket"}
    assert spec["mounts"] == [
        {"from": "s3://my-bucket/data", "to": "/data"},
        {"from": "s3://ckpts", "to": "/checkpoints", "mode": "cached"},
    ]
    assert spec["files"] == [{"from": "./.", "to": "workdir"}, {"from": "./src", "to": "~/code"}]
    assert spec["setup"] == ["cd workdir\npip install -r requirements.txt"]
    assert found.commands == ("clusterctl submit --nodes 2 --gpus 8 --gpu-type H100 --working-dir . -- bash job.sh",)
    assert 'export SKYPILOT_NODE_RANK="${RANK:-0}"' in found.texts["job.sh"]


def test_secrets_are_nowhere_in_what_is_written() -> None:
    found = read(TASKS["nodes"])
    everything = json.dumps(found.texts) + "".join(map(str, found.notes))
    assert "hf_abc" not in everything and "0123456789abcdef" not in everything
    assert [note.line for note in found.notes if "secret" in note.message] == [14, 15]


def test_what_was_left_out_is_said_with_its_place() -> None:
    keys = {note.message.partition(":")[0] for note in read(TASKS["nodes"]).notes}
    assert keys >= {
        "resources.image_id", "resources.ports", "resources.disk_tier", "envs.HF_TOKEN", "envs.LATER", "secrets",
        "file_mounts./data", "file_mounts./made",
    }  # fmt: skip


def test_places_that_will_do_are_a_list_and_each_keeps_what_is_its_own() -> None:
    spec = spec_of("any of")
    assert spec["provider"] == [{"aws": {"region": "us-west-2"}}, {"gcp": {"region": "us-central1"}}]
    assert spec["provider_order"] == "price"
    assert spec["pools"][0]["market"] == {"aws/us-west-2": ["spot"], "gcp/us-central1": ["on-demand"]}
    spec = spec_of("ordered")
    assert "provider_order" not in spec
    assert spec["pools"][0]["instances"] == {"gcp/us-central1": ["n2-standard-8"], "aws/us-east-1": ["m6i.2xlarge"]}


@pytest.mark.parametrize("name", ["several accelerators", "a list of them", "a set as text"])
def test_each_accelerator_that_will_do_is_a_pool(name: str) -> None:
    pools = spec_of(name)["pools"]
    assert len({pool["gpu"]["name"] for pool in pools}) == 2 == len({pool["name"] for pool in pools})


def test_amounts_are_those_of_skypilot() -> None:
    (pool,) = spec_of("sizes")["pools"]
    assert pool == {"name": "cpu", "max": 1, "resources": {"CPU": 8, "memory": "32GiB"}, "disk": "1TiB"}
    (pool,) = spec_of("hello")["pools"]
    assert pool["resources"] == {"CPU": 8, "memory": "32GiB"}, "what a task gets that asks for nothing"


def test_a_service_is_run_by_the_command_that_is_told() -> None:
    found = read(TASKS["service"])
    assert found.commands == (
        "clusterctl service run --name llm --replicas 2 --health /v1/models --gpus 1 --gpu-type L4 "
        "--working-dir . -- bash job.sh",
    )
    assert yaml.safe_load(found.texts["cluster.yaml"])["pools"][0]["max"] == 4


def test_the_place_may_be_said_beside_the_task() -> None:
    text, _ = REFUSED["no place"]
    assert yaml.safe_load(read(text, "aws/us-east-1").texts["cluster.yaml"])["provider"] == {
        "aws": {"region": "us-east-1"}
    }
    assert yaml.safe_load(read(text, "local").texts["cluster.yaml"])["provider"] == "local"


@pytest.mark.parametrize("name", REFUSED)
def test_a_task_that_no_spec_can_be_is_refused_with_the_reason(name: str) -> None:
    text, words = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        read(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("key", sorted({*skypilot.KEYS} - {"name", "resources", "run"}))
def test_no_key_vanishes(key: str) -> None:
    """Each is taken over, or told of."""
    values: dict[str, Any] = {
        "num_nodes": 3,
        "setup": "make",
        "workdir": "src",
        "envs": {"A": "b"},
        "file_mounts": {"/a": "./b"},
    }
    base = {"name": "a", "resources": {"infra": "aws/us-east-1", "cpus": 4}, "run": "make"}
    found = read(yaml.safe_dump({**base, key: values.get(key, {"a": "b"})}, sort_keys=False))
    before = read(yaml.safe_dump(base, sort_keys=False))
    changed = (found.texts, found.commands) != (before.texts, before.commands)
    assert changed or any(note.message.startswith(key) for note in found.notes)
