"""`simulate` from spec and trace to document, table and report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clusterctl.core.errors import UsageError
from clusterctl.core.simulate.summary import fits_some_offer
from clusterctl.simulation.command import POLICIES, SAMPLE, simulate
from clusterctl.simulation.fitting import fit
from clusterctl.simulation.setting import setting_of
from clusterctl.simulation.table import duration, render_table
from clusterctl.simulation.traces import load_trace
from clusterctl.spec.load import SpecError, parse_spec

SPEC = """
cluster: demo
provider: {aws: {region: us-east-1}}
pools:
  - {name: cpu, max: 4, instances: [m6i.2xlarge]}
  - {name: gpu, max: 4, gpu: {name: L4, count: 1}, market: [spot, on-demand]}
  - {name: none, max: 4, instances: [m99.huge]}
"""
TRACE = """submit_s,duration_s,nodes,cpus_per_node,memory_gib_per_node,gpus_per_node,gpu_type,priority,user
0,600,1,2,4,0,,,ada
10,600,1,2,4,1,,,ada
20,600,1,2,4,64,,,ada
-1,600,1,2,4,1,,,ada
4000,60,2,2,4,1,,,ada
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    spec, trace = tmp_path / "cluster.yaml", tmp_path / "jobs.csv"
    spec.write_text(SPEC)
    trace.write_text(TRACE)
    return spec, trace


def test_every_policy_gets_waits_dollars_and_reasons(files: tuple[Path, Path]) -> None:
    document = simulate(*files, policies=POLICIES)
    assert [run["policy"] for run in document["policies"]] == ["clusterctl", "ray-v2", "karpenter", "fixed"]
    for run in document["policies"]:
        assert run["finished"] == 3
        assert run["dollars"] > 0
        assert run["wait"]["p50"] <= run["wait"]["p95"] <= run["wait"]["p99"] <= run["wait"]["max"]
        assert sum(entry["count"] for entry in run["unserved"]) == 1
        assert 0 < run["gpu_utilisation"] <= 1
    ours, fixed = document["policies"][0], document["policies"][-1]
    assert ours["dollars"] < fixed["dollars"]


def test_bad_lines_pools_without_offers_and_jobs_too_large_are_said_and_the_rest_goes_on(
    files: tuple[Path, Path],
) -> None:
    document = simulate(*files, policies=["default"])
    text = render_table(document)
    assert "jobs.csv:5: submit_s is -1" in text
    assert "pool none has no offers: aws has no instance type 'm99.huge'" in text
    assert "unserved: 1 job, as job 4" in text
    assert "clusterctl" in text


def test_each_reason_is_one_line_however_many_shapes_and_policies_have_it(files: tuple[Path, Path]) -> None:
    files[1].write_text(f"{TRACE}30,600,1,2,4,32,,,ada\n40,600,1,2,4,32,,,ada\n50,600,1,900,4,0,,,ada\n")
    text = render_table(simulate(*files, policies=POLICIES))
    unserved = [line for line in text.splitlines() if line.startswith("unserved")]
    assert len(unserved) == 1 and unserved[0].startswith("unserved: 4 jobs under every policy, 2 of them as job 7: ")


@pytest.mark.parametrize(
    "pool", ["{name: cpu, max: 2, instances: [m6i.large]}", "{name: gpu, max: 3, instances: [g6.xlarge]}"]
)
def test_the_sample_fits_the_spec_that_it_is_played_on(files: tuple[Path, Path], pool: str) -> None:
    setting = setting_of(parse_spec(f"cluster: a\nprovider: {{aws: {{region: us-east-1}}}}\npools: [{pool}]\n")).setting
    trace = fit(load_trace(SAMPLE), setting)
    assert all(fits_some_offer(job.shape, setting.offers) and job.nodes <= setting.pools[0].max for job in trace.jobs)
    assert (
        "jobs of the sample were made smaller" in trace.notes[0] and f"{len(trace.jobs)} of 582 jobs" in trace.notes[1]
    )
    files[0].write_text(f"cluster: a\nprovider: {{aws: {{region: us-east-1}}}}\npools: [{pool}]\n")
    run = simulate(files[0], policies=["default"], world="calm")["policies"][0]
    assert run["finished"] == run["jobs"] and run["wait"]["p50"] < 3600, "nodes can keep up with it"


def test_the_sample_is_left_alone_where_it_fits(files: tuple[Path, Path]) -> None:
    pool = "{name: big, max: 40, instances: [g6.48xlarge]}"
    setting = setting_of(parse_spec(f"cluster: a\nprovider: {{aws: {{region: us-east-1}}}}\npools: [{pool}]\n")).setting
    assert fit(load_trace(SAMPLE), setting) == load_trace(SAMPLE)


def test_what_a_reservation_holds_is_not_guessed() -> None:
    pools = "pools: [{name: train, reservation: cr-0123456789abcdef0, max: 8}]\n"
    setting = setting_of(parse_spec(f"cluster: a\nprovider: {{aws: {{region: us-east-1}}}}\n{pools}"))
    assert not setting.setting.offers
    assert "what cr-0123456789abcdef0 of pool train reserves is known to AWS alone" in " ".join(setting.notes)


def test_the_same_seed_gives_the_same_document(files: tuple[Path, Path]) -> None:
    def without_times(document: dict) -> dict:
        for run in document["policies"]:
            del run["took_seconds"], run["events_per_second"]
        return document

    one = without_times(simulate(*files, policies=POLICIES, seed=3))
    two = without_times(simulate(*files, policies=POLICIES, seed=3))
    assert one == two


def test_the_report_is_one_file_that_loads_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    simulate(*files, policies=["default", "fixed:0.5"], html_out=out)
    page = out.read_text()
    assert "fixed:0.5" in page
    assert page.count('class="plotly-graph-div"') == 4
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policies": ["best"]}, "choose from default, ray-v2"),
        ({"policies": ["fixed:2"]}, "between 0 and 1"),
        ({"policies": []}, "no policy"),
        ({"world": "mars"}, "choose from calm, typical, scarce"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(files: tuple[Path, Path], changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        simulate(*files, **changes)


def test_a_spec_that_contradicts_itself_is_refused_with_its_line(files: tuple[Path, Path]) -> None:
    files[0].write_text(SPEC.replace("name: cpu, max: 4", "name: cpu, min: 5, max: 4"))
    with pytest.raises(SpecError, match=r"cluster\.yaml:5"):
        simulate(*files)


def test_durations_read_like_those_of_status() -> None:
    assert [duration(s) for s in (0, 59, 61, 3661, 90_000)] == ["0s", "59s", "1m01s", "1h01m", "1d01h"]
