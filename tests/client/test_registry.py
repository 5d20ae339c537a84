from __future__ import annotations

import json
import multiprocessing
import os
import stat
import uuid
from pathlib import Path

import pytest
from clusterctl_runtime.files.private import write_private

from clusterctl.client.lock import Busy, changing
from clusterctl.client.registry import Damaged, Registry
from clusterctl.client.specfile import SpecFile
from clusterctl.client.up.launch import write_files
from clusterctl.core.errors import NotFound
from clusterctl.spec.load import parse_located

SPEC = "cluster: demo\nprovider: local\nengine: none\npools:\n  - {name: cpu, max: 1, resources: {CPU: 1}}\n"


def make(registry: Registry, name: str = "demo"):
    return registry.create(name, provider="local", engine="none", spec_path="/x/cluster.yaml")


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root.parent)): stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}


def test_directories_are_0700_and_files_0600_whatever_the_umask(registry: Registry) -> None:
    before = os.umask(0)
    try:
        cluster = make(registry)
        write_files(cluster, SpecFile(Path("cluster.yaml"), SPEC, *parse_located(SPEC)))
        with changing(registry, "demo", "up"):
            pass
    finally:
        os.umask(before)
    for path, mode in modes(registry.home).items():
        assert mode == (0o700 if (registry.home.parent / path).is_dir() else 0o600), f"{path} has mode {mode:o}"


def test_a_directory_that_was_open_to_others_is_narrowed(registry: Registry) -> None:
    registry.home.mkdir(mode=0o755)
    make(registry)
    assert stat.S_IMODE(registry.home.stat().st_mode) == 0o700


def test_a_private_file_replaces_a_readable_one_and_keeps_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_a_private_file_is_not_written_through_a_link_that_someone_laid(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "secret").symlink_to(victim)
    write_private(tmp_path / "secret", "token")
    assert victim.read_text() == "untouched" and not (tmp_path / "secret").is_symlink()


def test_the_uid_is_minted_once_and_survives_every_later_up(registry: Registry) -> None:
    first = make(registry)
    second = registry.create("demo", provider="local", engine="ray", spec_path="/y.yaml")
    assert uuid.UUID(first.uid).version == 4
    assert (second.uid, second.created) == (first.uid, first.created)
    assert (second.spec_path, second.engine) == ("/y.yaml", "ray")


def test_the_head_is_given_the_hash_of_the_token_and_never_the_token(registry: Registry) -> None:
    cluster = make(registry)
    write_files(cluster, SpecFile(Path("cluster.yaml"), SPEC, *parse_located(SPEC)))
    token = cluster.read_client()["token"]
    assert len(token) >= 32
    assert all(token not in path.read_text() for path in cluster.head_dir.iterdir())
    write_files(cluster, SpecFile(Path("cluster.yaml"), SPEC, *parse_located(SPEC)))
    assert cluster.read_client()["token"] == token


def test_a_cluster_is_chosen_by_option_then_environment_then_being_the_only_one(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    registry = Registry(tmp_path / "home", environment)
    make(registry, "one")
    assert registry.resolve().name == "one"
    make(registry, "two")
    with pytest.raises(NotFound, match=r"2 clusters are known here \(one, two\): choose with -c NAME"):
        registry.resolve()
    environment["CLUSTERCTL_CLUSTER"] = "two"
    assert registry.resolve().name == "two"
    assert registry.resolve("one").name == "one"


def test_an_unknown_cluster_is_a_sentence_with_those_that_are_known_and_exit_code_3(registry: Registry) -> None:
    with pytest.raises(NotFound, match="no cluster is known here") as caught:
        registry.resolve()
    assert caught.value.exit_code == 3
    make(registry)
    with pytest.raises(NotFound, match=r"no cluster named 'dmo' is known here \(known: demo\)"):
        registry.resolve("dmo")


@pytest.mark.parametrize("name", ["../demo", "demo/..", "", "Demo", "a" * 41, "demo\n", "."])
def test_no_path_can_hide_in_a_name(registry: Registry, name: str) -> None:
    with pytest.raises(NotFound):
        registry.load(name)


def test_a_forgotten_cluster_leaves_no_file(registry: Registry) -> None:
    cluster = make(registry)
    write_private(cluster.head_dir / "store.db", "x")
    registry.forget(cluster)
    assert registry.names() == [] and not cluster.directory.exists()


@pytest.mark.parametrize("text", ["{nonsense", "", "[]", "{}", None])
def test_a_description_that_is_lost_or_damaged_is_made_anew_with_the_same_uid(
    registry: Registry, text: str | None
) -> None:
    cluster = make(registry)
    write_files(cluster, SpecFile(Path("/x/cluster.yaml"), SPEC, *parse_located(SPEC)))
    file = cluster.directory / "cluster.json"
    file.unlink() if text is None else file.write_text(text)
    again = registry.load("demo")
    assert registry.names() == ["demo"]
    assert (again.uid, again.provider, again.machine, again.engine) == (cluster.uid, "local", "process", "none")
    assert make(registry).uid == cluster.uid and json.loads(file.read_text())["uid"] == cluster.uid


def test_no_uid_is_minted_where_that_of_a_cluster_is_lost(registry: Registry) -> None:
    cluster = make(registry)
    (cluster.directory / "cluster.json").write_text("{nonsense")
    for again in (lambda: registry.load("demo"), lambda: make(registry), registry.all):
        with pytest.raises(
            Damaged, match=r"nobody knows which machines are those of cluster 'demo'.* list --adopt SPEC"
        ):
            again()
    write_private(cluster.head_dir / "nodes.db", "x")
    (cluster.directory / "cluster.json").unlink()
    with pytest.raises(Damaged):
        make(registry)


def test_the_home_comes_from_the_environment() -> None:
    assert Registry(environment={"CLUSTERCTL_HOME": "/some/where"}).home == Path("/some/where")
    assert Registry(environment={}).home == Path("~/.clusterctl").expanduser()


def _hold(home: Path, held, release) -> None:
    with changing(Registry(home), "demo", "up"):
        held.set()
        release.wait(60)


def test_a_second_shell_is_told_who_is_changing_the_cluster(registry: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(registry.home, held, release))
    other.start()
    try:
        assert held.wait(60)
        sentence = rf"`clusterctl up` \(process {other.pid}\) is changing cluster 'demo'"
        with pytest.raises(Busy, match=sentence), changing(registry, "demo", "down"):
            raise AssertionError("both have the lock")
        with changing(registry, "other", "up"):
            pass
    finally:
        release.set()
        other.join(60)


def test_a_killed_command_lets_the_lock_go(registry: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(registry.home, held, release))
    other.start()
    assert held.wait(60)
    other.kill()
    other.join(60)
    with changing(registry, "demo", "down"):
        body = json.loads((registry.home / "locks" / "demo.lock").read_text())
    assert body == {"pid": os.getpid(), "verb": "down"}


def test_a_cluster_of_an_earlier_version_says_as_well_what_its_nodes_are(registry: Registry) -> None:
    for provider, machine in (("ssh", "host"), ("docker", "container")):
        cluster = registry.create("demo", provider=provider, engine="none", spec_path="")
        note = json.loads((cluster.directory / "cluster.json").read_text())
        assert note.pop("machine") == machine
        (cluster.directory / "cluster.json").write_text(json.dumps(note))
        again = registry.load("demo")
        assert again.machine == machine
        assert again.on_hosts is again.head_is_remote is (provider == "ssh")
        registry.forget(cluster)
