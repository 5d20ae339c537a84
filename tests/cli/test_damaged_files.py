"""What clusterctl keeps of a cluster can be damaged or lost: it is made anew from the rest, or named with what to do. Nothing
that runs is left behind for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster

SPEC = "cluster: demo\nprovider: local\nengine: none\npools:\n  - {name: cpu, min: 1, max: 2, resources: {CPU: 2}}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path, SPEC)
    made.up()
    yield made
    made.clean_up()


def uid_of(path: Path) -> str:
    return json.loads(path.read_text())["uid"]


def test_a_cluster_whose_files_are_damaged_one_after_the_other_is_the_same_one_and_its_job_runs_on(
    cluster: LocalCluster,
) -> None:
    directory = cluster.home / "clusters" / "demo"
    note, config = directory / "cluster.json", directory / "head" / "config.json"
    uid, job = uid_of(note), cluster.submit("--", "sleep", "600")
    for text, path in (
        ("", note),
        ("{", config),
        ("", directory / "client.json"),
        ("[]", directory / "head" / "head.json"),
    ):
        path.write_text(text)
        cluster.up()
        assert uid_of(note) == uid, path
        assert cluster.json("job", "show", job)["state"] == "running", path
    note.unlink()
    assert [one["name"] for one in cluster.json("list")["clusters"]] == ["demo"]
    cluster.down()
    assert not cluster.processes() and not directory.exists()


def test_no_other_uid_is_minted_over_a_living_head_and_what_the_refusal_advises_works(cluster: LocalCluster) -> None:
    directory = cluster.home / "clusters" / "demo"
    uid = uid_of(directory / "cluster.json")
    for path in (directory / "cluster.json", directory / "head" / "config.json", directory / "head" / "supervisor.pid"):
        path.write_text("{")
    for command in (("up", str(cluster.spec)), ("down", "demo", "-y"), ("status",), ("list",)):
        said = cluster.cli(*command, code=1).stderr
        assert "nobody knows which machines are those of cluster 'demo'" in said and "list --adopt SPEC" in said, said
    shutil.move(directory, cluster.directory / "aside")
    adopted = cluster.json("list", "--adopt", str(cluster.spec))
    assert uid_of(directory / "cluster.json") == uid, adopted
    cluster.down()
    assert not [one for one in cluster.processes() if "agent" in " ".join(one.cmdline())]
