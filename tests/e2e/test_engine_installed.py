"""A Ray that this environment does not have, on this machine: installed once, used by every cluster that wants the same."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.cluster import LocalCluster
from tests.support.wheel_index import kept_wheels, serving, wanted

SPEC = """\
cluster: NAME
provider: local
engine: {ray: {version: "2.60.0", extras: [serve]}}
pools:
  - {name: cpu, min: 0, max: 1, resources: {CPU: 1}}
"""
JOB = """\
import sys
import ray
from ray import serve
ray.init()
print("runs in", sys.prefix)
"""


def test_extras_are_installed_once_for_all_clusters_of_this_machine(make_cluster: Callable[..., LocalCluster]) -> None:
    house, wheels = kept_wheels(wanted("serve"))
    with serving(house, wheels) as index:
        first = make_cluster(SPEC.replace("NAME", "one"), up=False)
        first.name = "one"
        first.env["UV_DEFAULT_INDEX"] = index.url
        said = first.cli("up", str(first.spec)).stderr
        assert "is installed once below" in said
        assert sorted(index.downloads) == sorted(wheel.file for wheel in wheels)
        (first.directory / "job.py").write_text(JOB)
        told = first.cli("submit", "job.py").stdout
        assert f"runs in {first.home / 'engines'}" in told
        where = first.cli("submit", "--", "sh", "-c", "command -v ray").stdout
        assert str(first.home / "engines") in where, "its programs are on the PATH"
        first.down()

        index.asked.clear()
        second = make_cluster(SPEC.replace("NAME", "two"), up=False)
        second.name = "two"
        second.env.update(UV_DEFAULT_INDEX=index.url, CLUSTERCTL_HOME=str(first.home))
        second.home = first.home
        assert "is installed once below" not in second.cli("up", str(second.spec)).stderr
        assert index.asked == []
        assert second.status()["engine"]["version"] == "2.60.0"
        second.down()


def test_a_version_that_does_not_exist_is_said_and_up_gives_up(make_cluster: Callable[..., LocalCluster]) -> None:
    with serving(*kept_wheels(wanted())) as index:
        cluster = make_cluster(SPEC.replace("NAME", "demo").replace("2.60.0", "2.99.0"), up=False)
        cluster.env["UV_DEFAULT_INDEX"] = index.url
        said = cluster.cli("up", str(cluster.spec), code=1).stderr
        assert "is not in the package index" in said and "2.99.0" in said
