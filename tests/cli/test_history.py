"""What a cluster did is read after `down`, from what its head told last."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.history.archive import History
from clusterctl.client.history.gathering import gather, keep_history
from clusterctl.client.history.past import PastApi
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError, NotFound, Refused
from tests.support.cluster import LocalCluster

SPEC = "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, min: 1, max: 2, resources: {CPU: 2}}]\n"


def test_jobs_logs_events_and_costs_are_read_after_down_as_before_and_no_secret_is_kept(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, SPEC)
    try:
        cluster.up()
        word = "s3cr" + "et"
        one = cluster.submit("--name", "one", "--env", f"PASSWORD={word}", "--", "sh", "-c", "echo hello; echo there")
        cluster.submit("--array", "1-2", "--name", "arr", "--", "sh", "-c", "echo member; exit 3")
        cluster.wait_job(one, "succeeded")
        long = cluster.submit("--name", "long", "--cpus", "2", "--", "sleep", "600")
        before = cluster.json("job", "show", one)
        token = json.loads((cluster.home / "clusters/demo/client.json").read_text())["token"]

        (ended,) = [w for w in cluster.cli("down", "demo", "-y").stderr.split() if w.startswith("demo@")]
        key = ended.rstrip("`")

        (row,) = cluster.json("list", "--history")["ended"]
        assert (row["key"], row["name"], row["jobs"], row["left_out"]) == (key, "demo", 4, [])
        jobs = cluster.json("jobs", "--history", "demo")["jobs"]
        assert [job["name"] for job in jobs] == ["long", "arr", "arr", "one"]
        assert (jobs[0]["id"], jobs[0]["state"]) == (long, "cancelled") and "taken down" in jobs[0]["reason"]
        assert cluster.json("job", "show", "one", "--history", key) == before
        assert cluster.cli("logs", "one", "--history", "demo").stdout == "hello\nthere\n"
        assert cluster.cli("logs", "last", "--history", key[:10]).stdout == ""
        events = cluster.json("events", "--history", "demo", "--subject", one)["events"]
        assert [event["code"] for event in events][-1] == "succeeded"
        assert cluster.json("cost", "--history", "demo", "--by", "job")["rows"]
        assert "is kept of cluster" in cluster.cli("logs", "nope", "--history", "demo", code=3).stderr

        (kept,) = (cluster.home / "history").glob("*.gz")
        text = gzip.decompress(kept.read_bytes()).decode()
        assert one in text and token not in text and word not in text
        assert {path.stat().st_mode & 0o777 for path in (cluster.home / "history").iterdir()} == {0o600}
    finally:
        cluster.clean_up()


def registered(home: Path, name: str = "demo", uid: str = "") -> Cluster:
    return Registry(home).create(name, provider="local", engine="none", spec_path="c.yaml", uid=uid)


def kept(**jobs: str) -> dict[str, Any]:
    """An archive of jobs with these logs."""
    document = {
        "name": "",
        "state": "succeeded",
        "exit_code": 0,
        "reason": "",
        "array_id": "",
        "script": "",
        "user": "",
    }
    listed = [{**document, "id": job, "entrypoint": [], "pool": ""} for job in jobs]
    pieces = {
        job: [{"rank": 0, "attempt": 1, "offset": 0, "next": len(text), "data": text}] for job, text in jobs.items()
    }
    costs = {"pool": {"by": "pool", "rows": []}}
    return {"status": {}, "jobs": listed, "counts": {}, "events": [], "cost": costs, "logs": pieces, "shown": {}}


def test_a_head_that_does_not_answer_is_no_reason_not_to_go_down_and_what_is_lost_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    keep_history(Registry(tmp_path), registered(tmp_path), said.append)
    assert len(said) == 1 and said[0].startswith("the jobs, logs, events and costs of cluster demo could not be kept")
    assert History(tmp_path).all() == []


def test_the_oldest_go_first_beyond_a_number_and_beyond_bytes_and_the_newest_always_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path)
    monkeypatch.setattr("clusterctl.client.history.archive.MOST", 3)
    for number in range(5):
        cluster = registered(tmp_path, f"c{number}")
        history.keep(cluster, kept(a="x" * 1000), [], now=1_800_000_000 + number)
    assert [one.name for one in history.all()] == ["c4", "c3", "c2"]
    monkeypatch.setattr("clusterctl.client.history.archive.MOST_BYTES", 1)
    history.keep(registered(tmp_path, "c9"), kept(), [], now=1_800_000_009)
    assert [one.name for one in history.all()] == ["c9"]
    assert len(list((tmp_path / "history").iterdir())) == 2, "nothing of the others is left"


def test_clusters_of_one_name_are_told_apart_by_when_they_ended_and_one_that_is_taken_down_again_is_kept_once(
    tmp_path: Path,
) -> None:
    history, cluster = History(tmp_path), registered(tmp_path)
    other = replace(cluster, uid="another")
    history.keep(cluster, kept(a=""), [], now=1_800_000_000)
    second = history.keep(other, kept(b=""), ["some logs"], now=1_800_000_100)
    third = history.keep(cluster, kept(c=""), [], now=1_800_000_200)
    assert [one.key for one in history.all()] == [third.key, second.key]
    assert history.find("demo") == third and history.find(second.key[:-2]) == second
    assert second.left_out == ("some logs",)
    with pytest.raises(NotFound, match=f"there is {third.key}"):
        history.find("other")


def test_a_death_while_it_is_written_leaves_no_half_archive_and_a_damaged_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, cluster = History(tmp_path), registered(tmp_path)
    first = history.keep(cluster, kept(a=""), [], now=1_800_000_000)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("clusterctl.client.history.archive.asdict", die)
        history.keep(cluster, kept(b=""), [], now=1_800_000_100)
    assert history.all() == [first], "the earlier one is whole"
    (tmp_path / "history" / f"{first.key}.gz").write_bytes(b"cut")
    with pytest.raises(ClusterctlError, match=f"{first.key}.gz cannot be read"):
        history.read(first)


def test_what_is_not_kept_is_refused_and_the_end_of_a_log_is_had_line_by_line(tmp_path: Path) -> None:
    history, cluster = History(tmp_path), registered(tmp_path)
    ended = history.keep(cluster, kept(**{"j-a": "1\n2\n3\n"}), [])
    past = PastApi(ended, history.read(ended))
    piece, end = past.stream("/api/v1/jobs/j-a/logs", tail=2)
    assert (piece["data"], piece["offset"], piece["next"]) == ("2\n3\n", 2, 6) and end["end"]
    with pytest.raises(Refused, match="is down since"):
        past.get("/api/v1/nodes")
    with pytest.raises(Refused, match="is down since"):
        past.post("/api/v1/jobs")


class Slow(PastApi):
    """Answers as a head does whose logs take their time."""

    def get(self, path: str, **query: Any) -> Any:
        return {"cost": {}, "engine": {}} if path == "/api/v1/status" else super().get(path, **query)


def test_after_its_time_no_further_log_is_asked_for_and_that_is_said(tmp_path: Path) -> None:
    history, cluster = History(tmp_path), registered(tmp_path)
    document = kept(**{"j-a": "a", "j-b": "b", "j-c": "c"})
    for job in document["jobs"]:
        job["attempts"] = [{}]
    ended = history.keep(cluster, document, [])
    times = iter([0.0, 1.0, 30.0, 31.0])
    gathered, left_out = gather(Slow(ended, document), lambda: next(times))
    assert list(gathered["logs"]) == ["j-a"] and left_out == ["the logs of 2 jobs before the newest 1"]
