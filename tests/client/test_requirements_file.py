"""`engine.ray.requirements`: the lines of the file are a part of the spec from the moment on that it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.client.run.one_job import for_one_job
from clusterctl.client.specfile import read_places, read_spec
from clusterctl.core.errors import UsageError
from clusterctl.spec.faults import SpecError
from clusterctl.spec.load import parse_spec
from clusterctl.spec.requirements import read_requirements

SPEC = """\
cluster: demo
provider: local
engine: {ray: {requirements: deps/all.txt, packages: [optuna]}}
pools: [{name: cpu, max: 2}]
"""
ALL = "# what we train with\ntorch==2.13.0   # the one that works\n-r more.txt\n\ntransformers[torch]>=5,\\\n    <6\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "all.txt").write_text(ALL)
    (tmp_path / "deps" / "more.txt").write_text('numpy; python_version > "3.9"\n')
    (tmp_path / "cluster.yaml").write_text(SPEC)
    return tmp_path / "cluster.yaml"


def test_its_lines_are_packages_in_what_is_kept_and_sent(spec: Path) -> None:
    read = read_spec(spec)
    assert read.spec.ray is not None
    wanted = ["optuna", "torch==2.13.0", 'numpy; python_version > "3.9"', "transformers[torch]>=5, <6"]
    assert (read.spec.ray.packages, read.spec.ray.requirements) == (wanted, "")
    assert parse_spec(read.text) == read.spec, "whoever reads the text elsewhere needs no file"


def test_a_cluster_of_one_job_has_them_too(spec: Path) -> None:
    (one,) = for_one_job(read_places(spec), "alone").each
    assert one.spec.ray is not None and len(one.spec.ray.packages) == 4 and not one.spec.ray.requirements


def test_a_changed_file_is_a_changed_spec(spec: Path) -> None:
    before = read_spec(spec)
    (spec.parent / "deps" / "more.txt").write_text("numpy>=2\n")
    assert read_spec(spec).text != before.text and read_spec(spec).spec.ray != before.spec.ray


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ray[serve]==2.60.0", "ray itself is no package (write `version` and `extras`"),
        ("-e .", "more.txt:2: -e is not read here"),
        ("--index-url https://example.com", "--index-url is not read here"),
        ("torch @ https://example.com/t.whl", "names a file"),
        ("six==1 --hash=sha256:00", "hashes are not read here"),
        ("two words", "is no requirement"),
        ("-r more.txt", "includes itself"),
        ("-r none.txt", "none.txt cannot be read (No such file"),
    ],
)
def test_a_line_that_no_index_can_meet_is_told_with_both_places(spec: Path, line: str, said: str) -> None:
    (spec.parent / "deps" / "more.txt").write_text(f"# and\n{line}\n")
    with pytest.raises(SpecError) as caught:
        read_places(spec)
    assert str(caught.value).startswith(f"{spec}:3:30: ") and said in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is no UTF-8"):
        read_requirements(tmp_path / "a.txt")


def test_an_interpreter_of_ones_own_takes_no_file(spec: Path) -> None:
    spec.write_text(SPEC.replace("packages: [optuna]", "python: /opt/bin/python"))
    with pytest.raises(SpecError, match="nothing is installed where `python` names an interpreter"):
        read_places(spec)
