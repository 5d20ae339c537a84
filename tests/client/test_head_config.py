"""`config.json` and the token, as they are written for heads here and elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from clusterctl_runtime.head.config import HeadConfig

from clusterctl.client.head.config import (
    config_there,
    digest_of,
    keep_bare_config,
    keep_config,
    keep_token,
    write_config_here,
)
from clusterctl.client.registry import Cluster, Registry
from clusterctl.spec.load import parse_located

TEXT = "cluster: demo\nprovider: local\npools: [{name: cpu, max: 2}]\n"
SPEC = parse_located(TEXT)[0]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Registry(tmp_path / "home").create("demo", provider="local", engine="ray", spec_path="/cluster.yaml")


def test_a_head_here_loads_what_was_written_for_it(cluster: Cluster) -> None:
    write_config_here(cluster, SPEC, TEXT)
    loaded = HeadConfig.load(cluster.head_dir)
    assert (loaded.name, loaded.uid, loaded.spec, loaded.spec_yaml) == ("demo", cluster.uid, SPEC, TEXT)
    assert loaded.token_sha256 == digest_of(cluster.read_client()["token"])
    assert (loaded.state_dir, loaded.engine_python) == (cluster.provider_dir, sys.executable)
    assert loaded.engine_store == cluster.directory.parent.parent / "engines"
    assert cluster.read_client()["token"] not in cluster.config_file.read_text()


def test_a_head_elsewhere_loads_it_below_its_own_directory(cluster: Cluster, tmp_path: Path) -> None:
    there = tmp_path / "host" / "head"
    there.mkdir(parents=True)
    (there / "config.json").write_text(config_there(cluster, SPEC, TEXT, "/opt/ray/bin/python"))
    loaded = HeadConfig.load(there)
    assert (loaded.uid, loaded.spec, str(loaded.state_dir)) == (cluster.uid, SPEC, "provider")
    assert loaded.engine_python == "/opt/ray/bin/python" and loaded.engine_store == there.parent / "engines"
    assert loaded.token_sha256 == digest_of(cluster.read_client()["token"])


def test_the_token_is_minted_once_and_the_place_of_a_head_elsewhere_is_not_forgotten(cluster: Cluster) -> None:
    config_there(cluster, SPEC, TEXT, "")
    token = cluster.read_client()["token"]
    cluster.client_file.write_text(json.dumps({"url": "http://127.0.0.1:1", "token": token}))
    keep_config(cluster, SPEC, TEXT)
    assert cluster.read_client() == {"url": "http://127.0.0.1:1", "token": token}
    write_config_here(cluster, SPEC, TEXT)  # this head is about to start
    assert cluster.read_client() == {"url": "", "token": token}
    keep_token(cluster, "another")
    assert json.loads(config_there(cluster, SPEC, TEXT, ""))["token_sha256"] == digest_of("another")


def test_down_finds_provider_and_login_of_a_cluster_whose_spec_is_lost(cluster: Cluster) -> None:
    keep_bare_config(cluster, {"aws": {"region": "eu-west-1"}}, {"user": "ubuntu"})
    spec = cluster.read_config()["spec"]
    assert spec == {
        "cluster": "demo",
        "provider": {"aws": {"region": "eu-west-1"}},
        "auth": {"user": "ubuntu"},
        "pools": [],
    }
