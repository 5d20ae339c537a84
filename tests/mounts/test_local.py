"""Mounts where nodes are processes of this machine: buckets by their programs, volumes as directories."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
from clusterctl_runtime.files.mount_table import read_table

from tests.mounts.conftest import KEYS, S3
from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider: local
engine: none
env: {keys}
mounts:
  - {{from: "s3://data/sets", to: /datasets, endpoint: "{url}"}}
  - {{from: "s3://results", to: /results, mode: cached, endpoint: "{url}"}}
  - {{volume: work, to: /work, keep: true}}
  - {{volume: scratch, to: /scratch}}
pools:
  - {{name: cpu, min: 1, max: 2, resources: {{CPU: 2}}}}
"""


def read(cluster: LocalCluster, script: str) -> str:
    return cluster.cli("submit", "-q", "--pool", "cpu", "--", "bash", "-c", script).stdout.strip()


def test_buckets_and_volumes_are_there_for_jobs_and_nothing_is_left_of_them_but_what_is_to_be_kept(
    s3: S3, tmp_path: Path
) -> None:
    s3.put("data", sets__a=b"first", other=b"no")
    s3.put("results")
    cluster = LocalCluster(tmp_path, SPEC.format(keys=json.dumps(KEYS), url=s3.url))
    try:
        cluster.up()
        assert read(cluster, "ls $CLUSTERCTL_MOUNTS/datasets; cat $CLUSTERCTL_MOUNTS/datasets/a") == "a\nfirst"
        assert "Read-only" in read(cluster, "touch $CLUSTERCTL_MOUNTS/datasets/b 2>&1 || true")
        said = read(
            cluster,
            "cd $CLUSTERCTL_MOUNTS; head -c 3000000 /dev/zero > results/big; echo kept > work/note; echo gone > scratch/note;"
            "cat work/note",
        )
        assert said == "kept"
        argvs = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        assert any("rclone mount bucket:data/sets" in argv for argv in argvs)
        assert not any(KEYS["AWS_SECRET_ACCESS_KEY"] in argv for argv in argvs), "no list of processes shows a key"
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in cluster.head_log(10**7)
        mounts = {m["to"]: m for m in cluster.json("node", "show", "cpu-1")["mounts"]}
        assert {m["state"] for m in mounts.values()} == {"mounted"} and mounts["/results"]["mode"] == "cached"
        shown = cluster.cli("node", "show", "cpu-1").stdout
        assert "/datasets  s3://data/sets  mounted  read-only" in shown, shown
    finally:
        cluster.clean_up()
    assert len(s3.read("results", "big")) == 3_000_000
    assert s3.keys("results") == ["big"]
    assert (cluster.home / "volumes/demo/work/note").read_text() == "kept\n"
    assert not [one for one in read_table() if one.is_fuse and "/cctl-" in one.path]
