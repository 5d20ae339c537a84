"""The Dockerfile of a spec: what is in it, and what must not be."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing.in_image import VARIABLE, done_in_image, noted

from clusterctl.client.images.dockerfile import dockerfile
from clusterctl.core.errors import UsageError
from clusterctl.spec.load import parse_spec
from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider: docker
engine: {ray: {version: "2.60.0", extras: [serve], packages: ["emoji<3"]}}
setup: ["echo a"]
pools:
  - {name: cpu, setup: ["echo \\"b'\\nc"]}
  - {name: gpu, image: "mine:1"}
"""


def test_it_has_ray_and_the_setup_of_the_pool_in_their_order() -> None:
    made = dockerfile(parse_spec(SPEC))
    lines = [line for line in made.text.splitlines() if not line.startswith("#")]
    assert lines[0].startswith("FROM python:3.")
    assert lines[2].endswith("pip install --no-cache-dir 'ray[default,serve]==2.60.0' 'emoji<3'")
    assert lines[3:5] == ['RUN ["bash", "-lc", "echo a"]', 'RUN ["bash", "-lc", "echo \\"b\'\\nc"]']
    assert lines[5] == f"ENV {VARIABLE}={noted(made.setup)}"
    assert (made.pool, made.setup, made.left_out) == ("cpu", ("echo a", "echo \"b'\nc"), "")


@pytest.mark.parametrize(
    ("pool", "base", "starts_from"), [("gpu", "", "mine:1"), ("cpu", "", "python:3."), ("gpu", "other:2", "other:2")]
)
def test_it_starts_from_what_the_pools_nodes_start_from(pool: str, base: str, starts_from: str) -> None:
    assert dockerfile(parse_spec(SPEC), pool, base).base.startswith(starts_from)


def test_a_machine_image_is_no_base_of_a_container() -> None:
    cloud = 'provider: {aws: {region: us-east-1}}\npools: [{name: cpu, instances: [t3.micro], image: "ami-12345678"}]'
    assert dockerfile(parse_spec(f"cluster: demo\n{cloud}\nengine: ray\n")).base.startswith("python:3.")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("env: {TOKEN: secret}\n", "the spec's `env`"),
        ("files: [{from: here, to: there}]\n", "the spec's `files`"),
        ('mounts: [{from: "nfs://10.0.0.5/export", to: /data}]\n', "the spec's `mounts`"),
    ],
)
def test_setup_that_may_need_what_a_build_has_not_stays_with_the_nodes(more: str, why: str, tmp_path: Path) -> None:
    made = dockerfile(parse_spec(more + SPEC))
    assert (made.setup, made.left_out) == ((), why)
    assert "secret" not in made.text and "echo" not in made.text and VARIABLE not in made.text
    assert f"run on each node as before: they may need {why}" in made.text


def test_the_package_index_is_an_argument_and_a_password_in_it_is_refused() -> None:
    spec = SPEC
    assert (
        "ARG PIP_INDEX_URL=http://here/simple\n"
        in dockerfile(parse_spec("env: {PIP_INDEX_URL: 'http://here/simple'}\n" + spec)).text
    )
    with pytest.raises(UsageError, match="PIP_INDEX_URL has a password in its address"):
        dockerfile(parse_spec("env: {PIP_INDEX_URL: 'http://me:secret@here/simple'}\n" + spec))


def test_where_an_image_would_spare_nothing_it_says_so() -> None:
    plain = "cluster: demo\nprovider: docker\nengine: none\npools: [{name: cpu}]\n"
    with pytest.raises(UsageError, match="nodes of pool cpu nothing: there is no engine and no setup command"):
        dockerfile(parse_spec(plain))
    with pytest.raises(UsageError, match="its setup commands may need the spec's `files`"):
        dockerfile(parse_spec(plain + "setup: [make]\nfiles: [{from: a, to: b}]\n"))
    with pytest.raises(UsageError, match="names a Python that the image has already"):
        dockerfile(parse_spec(plain.replace("none", "{ray: {python: /opt/ray/bin/python}}")))
    with pytest.raises(UsageError, match="no pool is named 'gpu': there are cpu"):
        dockerfile(parse_spec(plain), "gpu")


def test_it_is_written_where_nothing_is_lost(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, SPEC)
    told = cluster.cli("image", "dockerfile", "cluster.yaml", "--out", "Dockerfile").stdout
    assert told.startswith("Dockerfile: python:3.") and told.endswith(
        "ray[default,serve]==2.60.0 and emoji<3 and 2 setup commands\n"
    )
    assert (tmp_path / "Dockerfile").read_text() == cluster.cli("image", "dockerfile", "cluster.yaml").stdout
    again = cluster.cli("image", "dockerfile", "cluster.yaml", "--out", "Dockerfile", code=2).stderr
    assert "Dockerfile is there already" in again


@pytest.mark.parametrize(
    ("commands", "done"),
    [(["a", "b"], 2), (["a", "b", "c"], 2), (["a"], 0), (["b", "a"], 0), (["x", "a", "b"], 0), ([], 0)],
)
def test_a_node_passes_over_what_its_image_has_run_and_only_as_the_first(commands: list[str], done: int) -> None:
    assert done_in_image(commands, {VARIABLE: noted(["a", "b"])}) == done


def test_a_node_of_any_other_image_runs_all_of_its_setup() -> None:
    assert done_in_image(["a"], {}) == done_in_image(["a"], {VARIABLE: ""}) == 0
