"""`init --from` a file of `ray up`. Ray's own schema, from its wheel, says what such a file is."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from clusterctl.cli.verbs.spec_files import known_names
from clusterctl.core.errors import UsageError
from clusterctl.importing import ray_up
from clusterctl.importing.draft import Imported
from clusterctl.importing.given import Given
from clusterctl.importing.paths import Moved
from clusterctl.importing.read import convert
from clusterctl.spec.load import parse_spec
from tests.importing.ray_clusters import AWS, AZURE, GCP, HOSTS

NO_MACHINES = ("spark", "vsphere", "readonly")


@cache
def autoscaler() -> Path:
    """Of Ray's wheel; finding it imports no Ray."""
    found = importlib.util.find_spec("ray")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "autoscaler"


@cache
def schema() -> dict[str, Any]:
    return json.loads((autoscaler() / "ray-schema.json").read_text())


def read(text: str) -> Imported:
    return convert(text, "ray.yaml", Moved("/here", "/here"), Given(), "x", known_names)


def document(text: str) -> Any:
    return yaml.safe_load(text)


@pytest.mark.parametrize("text", [AWS, GCP, AZURE, HOSTS], ids=["aws", "gcp", "azure", "hosts"])
def test_the_files_here_are_such_as_ray_takes(text: str) -> None:
    Draft7Validator(schema()).validate(document(text))


def test_every_key_that_ray_knows_is_known() -> None:
    known = schema()["properties"]
    assert set(ray_up.KEYS) == set(known)
    (types,) = known["available_node_types"]["patternProperties"].values()
    assert set(ray_up.TYPE_KEYS) == set(types["properties"])
    assert set(ray_up.AUTH_KEYS) == set(known["auth"]["properties"])


def test_a_cluster_of_several_types_is_one_of_several_pools() -> None:
    found = read(AWS)
    spec = document(found.texts["cluster.yaml"])
    assert spec["cluster"] == "vision-2"
    assert spec["provider"] == {
        "aws": {"region": "us-west-2", "reach": "private", "subnets": ["subnet-0123456789abcdef0"]}
    }
    assert spec["auth"] == {"user": "ubuntu", "key": "~/.ssh/vision.pem"}
    assert spec["head"] == {"instance": "m6i.xlarge", "image": "ami-0123456789abcdef0", "disk": "140GiB"}
    assert spec["engine"] == {"ray": {"version": "2.60.0", "extras": ["data", "train"]}}
    cpu, gpu = spec["pools"]
    assert cpu == {
        "name": "cpu",
        "min": 1,
        "max": 4,
        "instances": ["m6i.2xlarge"],
        "market": ["spot"],
        "zones": ["us-west-2a", "us-west-2b"],
        "resources": {"fast_disk": 2},
        "idle_timeout": "10m",
        "labels": {"team": "vision"},
        "setup": ["echo worker"],
    }
    assert (gpu["max"], gpu["idle_timeout"], gpu["setup"]) == (6, "90s", ["nvidia-smi"])
    assert spec["limits"] == {"nodes": 7}, "four and six together are more than six"
    assert spec["setup"] == ["sudo sysctl -w vm.swappiness=0", "sudo apt-get install -y ffmpeg"]
    assert spec["files"] == [{"from": "./code", "to": "/home/ubuntu/code"}, {"from": "/srv/data", "to": "/data"}]


def test_what_was_left_out_is_said_with_its_place_and_stands_in_the_spec() -> None:
    found = read(AWS)
    said = {(note.line, note.message.partition(":")[0]): str(note) for note in found.notes}
    for key in ("upscaling_speed", "docker", "head_setup_commands", "head_start_ray_commands", "rsync_exclude"):
        line = AWS[: AWS.index(f"{key}:")].count("\n") + 1
        assert any(at == line and name.startswith(key) for at, name in said), (line, key, sorted(said))
    lines = found.texts["cluster.yaml"].splitlines()
    assert all(f"#   {note.line}:{note.column}: {note.message}" in " ".join(lines) for note in found.notes)


def test_a_command_with_a_secret_in_it_is_not_copied() -> None:
    found = read(AWS)
    assert "0123456789abcdef &&" not in json.dumps(found.texts)
    assert any("it looks like a secret" in note.message for note in found.notes)


def test_a_mount_of_credentials_is_left_out_as_a_whole() -> None:
    told = {**document(AWS), "file_mounts": {"/a": "./a", "/root/.aws/credentials": "~/.aws/credentials"}}
    found = read(yaml.safe_dump(told))
    files = document(found.texts["cluster.yaml"])["files"]
    assert files and all({"from", "to"} <= one.keys() and "credentials" not in one["from"] for one in files)
    assert any("it looks like a secret" in note.message for note in found.notes)


def test_what_is_attached_to_a_machine_is_part_of_its_name() -> None:
    (pool,) = document(read(GCP).texts["cluster.yaml"])["pools"]
    assert pool["instances"] == ["n1-standard-8+nvidia-tesla-t4x1"] and pool["market"] == ["spot"]


def test_workers_that_nobody_counted_are_as_many_as_all() -> None:
    spec = document(read(AZURE).texts["cluster.yaml"])
    assert spec["provider"]["azure"]["region"] == "westus2"
    assert [(pool["max"], pool["market"]) for pool in spec["pools"]] == [(2, ["spot"])]


def test_hosts_are_a_pool_of_hosts() -> None:
    spec = parse_spec(read(HOSTS).texts["cluster.yaml"])
    assert spec.provider_name == "ssh" and spec.head.host == "10.0.0.5"
    assert [(pool.hosts, pool.max) for pool in spec.pools] == [(["10.0.0.6", "10.0.0.7"], 2)]
    assert spec.setup == [] and spec.files[0].source == "./code"


@pytest.mark.parametrize("name", ["aws", "azure", "gcp", "local", "readonly", "spark", "vsphere"])
def test_what_rays_wheel_ships_is_converted_or_refused_with_the_reason(name: str) -> None:
    folder = autoscaler() / "_private" / name if name == "readonly" else autoscaler() / name
    text = (folder / "defaults.yaml").read_text()
    if name in NO_MACHINES:
        with pytest.raises(UsageError, match=f"clusterctl cannot get machines of {name}"):
            read(text)
    elif name == "local":
        with pytest.raises(
            UsageError, match="it is none of"
        ):  # it names no provider: what users write is merged into it
            read(text)
    else:
        assert parse_spec(read(text).texts["cluster.yaml"]).provider_name == name


PLANTED = [
    ("cluster_name: a\nprovider: {type: aws, region: us-east-1}\nmax_worker: 1\n", "ray.yaml:3:1: max_worker: there is no"),
    ("cluster_name: a\nprovider: {region: us-east-1}\n", "it has no `type`"),
    ("cluster_name: a\nprovider: {type: gcp, region: us-east1}\n", "nothing says which machines it wants"),
    (AZURE.replace("head_node_type: head", "head_node_type: hed"), "ray.yaml:5:1: head_node_type: there is no such node type"),
    (AZURE.replace("max_workers: 2", "max_workers: two"), "max_workers: must be a number"),
    (AZURE.replace("max_workers: 2", "max_workers: -2"), "max_workers: must be a whole number, 0 or more"),
    (AWS.replace("g6.xlarge", "g6.xlage"), "ray.yaml:45:7: InstanceType: AWS has no instance type"),
    (HOSTS.replace("head_ip: 10.0.0.5", "coordinator_address: 10.0.0.5:1"), "it has no `head_ip`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), PLANTED, ids=[words for _, words in PLANTED])
def test_a_file_that_is_wrong_is_refused_at_the_place(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("key", sorted(ray_up.KEYS))
def test_no_key_vanishes(key: str) -> None:
    """Each is taken over, or told of."""
    values = {"string": "text", "integer": 3, "number": 3, "boolean": True, "array": ["a"], "object": {"a": "b"}}
    kind = schema()["properties"][key].get("type", "array")
    base = document(AZURE)
    if key in base:
        return
    found = read(yaml.safe_dump({**base, key: values[kind]}, sort_keys=False))
    spec = document(found.texts["cluster.yaml"])
    before = document(read(AZURE).texts["cluster.yaml"])
    assert spec != before or any(note.message.startswith(key) for note in found.notes)
