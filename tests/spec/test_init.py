"""Starters: what `init` writes is a spec that is read and a job that runs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.spec.init import STARTERS, starter_texts, write_starter
from clusterctl.spec.load import load_spec, parse_spec
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.support import unsupported


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_is_a_spec_of_its_provider(name: str, tmp_path: Path) -> None:
    written = write_starter(name, tmp_path / "new" / "directory")
    assert [path.name for path in written] == ["cluster.yaml", "job.py"]
    spec = load_spec(written[0])
    assert spec.kind is STARTERS[name]
    if spec.kind.cloud is not None:
        assert spec.limits.cost_per_hour  # no starter spends without a limit
    ast.parse(written[1].read_text())


def test_every_provider_has_a_starter() -> None:
    assert KINDS.keys() <= STARTERS.keys()


def test_the_local_starter_grows_from_nothing_and_lets_go_soon() -> None:
    spec = parse_spec(starter_texts("local", ray=True)["cluster.yaml"])
    (pool,) = spec.pools
    assert (pool.min, pool.max, pool.resources, pool.idle_timeout) == (0, 3, {"CPU": 1}, 30)
    assert unsupported(spec) == ()
    assert spec.ray is not None


def test_without_ray_the_local_starter_runs_plain_jobs() -> None:
    texts = starter_texts("local", ray=False)
    assert parse_spec(texts["cluster.yaml"]).engine == "none"
    assert "import ray" not in texts["job.py"]


def test_the_pool_in_comments_is_a_pool_as_well() -> None:
    text = starter_texts("local", ray=True)["cluster.yaml"]
    with_it = text.replace("  # - name: acc", "  - name: acc")
    for key in ("max: 2", "resources", "labels"):
        with_it = with_it.replace(f"  #   {key}", f"    {key}")
    assert [pool.name for pool in parse_spec(with_it).pools] == ["cpu", "accelerators"]


def test_the_plain_job_runs(tmp_path: Path) -> None:
    _, job = write_starter("fake", tmp_path)
    env = {**os.environ, "CLUSTERCTL_NODE_ID": "cpu-1", "RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, str(job)], capture_output=True, text=True, env=env, check=True)
    assert "pi is about 3.1" in done.stdout and "rank 1 of 2 on cpu-1" in done.stdout


@pytest.mark.parametrize("present", ["cluster.yaml", "job.py"])
def test_nothing_is_overwritten_and_nothing_half_written(present: str, tmp_path: Path) -> None:
    (tmp_path / present).write_text("mine")
    with pytest.raises(UsageError, match=present.replace(".", "[.]")):
        write_starter("local", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "mine"


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "job.py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"job\.py"):
        write_starter("local", tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        write_starter("local", tmp_path / "here")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = Path.open

    def full_disk(path: Path, *args: str, **kwargs: str) -> object:
        if path.name == "job.py":
            raise OSError(28, "No space left on device")
        return open_file(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full_disk)
    with pytest.raises(ClusterctlError, match="No space left on device; nothing was left"):
        write_starter("local", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_starter_suggests_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'docker'"):
        write_starter("dokcer", Path("unused"))
    with pytest.raises(UsageError, match="aws-train"):
        write_starter("zzz", Path("unused"))


@pytest.mark.parametrize("name", ["train", "tune", "data"])
def test_a_local_starter_of_an_ai_library_brings_its_ray_where_there_is_none(name: str) -> None:
    texts = starter_texts(f"local-{name}", ray=False)
    spec = parse_spec(texts["cluster.yaml"])
    assert spec.ray is not None and spec.ray.version and name in spec.ray.extras
    assert "import ray" in texts["job.py"] and spec.env["STORAGE"]
    assert unsupported(spec) == ()
