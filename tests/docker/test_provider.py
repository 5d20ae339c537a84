"""What the Docker provider refuses, how it says so, and that a refusal leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers import make_provider
from clusterctl_providers.base import HasClusters, HasConsole, HasDoctor, Provider, ProviderContext
from clusterctl_providers.docker.checks import check_engine
from clusterctl_providers.docker.client import Engine
from clusterctl_providers.docker.provider import DockerProvider
from clusterctl_providers.this_machine import maker
from docker.context import ContextAPI

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError
from clusterctl.core.model import Instance
from clusterctl.provision.gc import collect
from tests.docker.world import DockerWorld
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine


@pytest.fixture
def world(docker_engine: DockerEngine) -> Iterator[DockerWorld]:
    place = DockerWorld()
    yield place
    place.close()


def refused(world: DockerWorld, settings: dict[str, Any], pool: dict[str, Any] | None = None) -> ProviderError:
    """The error of a create with these settings; nothing may be left of it."""
    world.pool = replace(world.pool, spec={**world.pool.spec, **(pool or {})})
    provider = world.open({**world.settings(), **settings})
    (answer,) = provider.create([world.request(provider, "cpu-1")])
    assert isinstance(answer, ProviderError), answer
    (scope,) = provider.list()
    assert scope.complete and scope.instances == ()
    return answer


@pytest.mark.parametrize("source", ["/var/run/docker.sock", "/var/run", "/run/containerd", "/"])
def test_a_mount_that_would_give_away_the_engine_is_refused(world: DockerWorld, source: str) -> None:
    error = refused(world, {"mounts": [f"{source}:/mnt"]})
    assert isinstance(error, BadRequest) and "socket" in str(error) and source in str(error)


def test_the_socket_of_this_very_engine_is_refused_under_another_name(
    world: DockerWorld, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    link = tmp_path / "harmless"
    link.symlink_to(Path(docker_engine.host.removeprefix("unix://")).parent)
    assert isinstance(refused(world, {"mounts": [str(link)]}), BadRequest)


def test_a_directory_is_mounted_as_the_spec_says(
    world: DockerWorld, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    provider = world.open({**world.settings(), "mounts": [f"{tmp_path}:/data:ro"]})
    (made,) = world.create(provider, "cpu-1")
    mounts = docker_engine.client.containers.get(made.id).attrs["Mounts"]
    assert [(m["Source"], m["Destination"], m["RW"]) for m in mounts] == [(str(tmp_path), "/data", False)]


def test_gpus_that_the_engine_cannot_give_are_no_capacity(world: DockerWorld) -> None:
    error = refused(world, {}, {"gpu": {"name": "L4", "count": 1}})
    assert isinstance(error, NoCapacity) and "NVIDIA container toolkit" in str(error)


def test_every_gpu_is_given_to_one_node_only(world: DockerWorld) -> None:
    from clusterctl_providers.docker.container import LABEL_GPUS
    from clusterctl_providers.docker.gpus import choose_gpus

    settings, others = {"gpu_ids": ["0", "1", "2"]}, [{"Labels": {LABEL_GPUS: "0,2"}}, {"Labels": {}}]
    assert choose_gpus(1, others, settings, "gpu-1") == ["1"]
    with pytest.raises(NoCapacity, match="1 of the 3"):
        choose_gpus(2, others, settings, "gpu-1")


def test_an_image_without_python_is_named_with_what_it_lacks(world: DockerWorld, docker_engine: DockerEngine) -> None:
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("nothing"))
    docker_engine.client.api.import_image_from_data(empty.getvalue(), repository="clusterctl-test/empty", tag="1")
    error = refused(world, {"image": "clusterctl-test/empty:1"})
    assert isinstance(error, BadRequest) and "no python3" in str(error) and "clusterctl-test/empty:1" in str(error)


def test_an_image_with_an_old_python_is_named_with_its_version(world: DockerWorld, docker_engine: DockerEngine) -> None:
    said = "#!/bin/sh\\necho 3.8 0 0\\n"
    python = "/usr/local/bin/python3"
    dockerfile = f"FROM {world.image}\nRUN printf '{said}' >{python}; chmod 755 {python}\n"
    docker_engine.client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag="clusterctl-test/old:1", rm=True)
    error = refused(world, {"image": "clusterctl-test/old:1"})
    assert isinstance(error, BadRequest) and "3.8" in str(error) and "3.10" in str(error)


def test_no_image_at_all_says_where_to_write_one(world: DockerWorld) -> None:
    error = refused(world, {"image": ""})
    assert isinstance(error, BadRequest) and "image:" in str(error)


def test_a_network_that_is_not_there_says_how_to_make_it(world: DockerWorld) -> None:
    error = refused(world, {"network": "nowhere"})
    assert isinstance(error, BadRequest) and "docker network create nowhere" in str(error)


def test_a_port_that_is_taken_on_this_machine_leaves_no_container(world: DockerWorld) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        world.pool = replace(world.pool, role="head")
        error = refused(world, {"ports": [f"{taken.getsockname()[1]}:8000"]})
    assert isinstance(error, BadRequest) and "provider.docker.ports" in str(error)


def test_a_shell_with_another_engine_does_not_take_it_for_the_clusters(world: DockerWorld) -> None:
    world.create(world.provider(), "cpu-1")
    note = world.state_dir(world.uid) / "engine.json"
    before = note.read_text()
    note.write_text(before.replace('"id": "', '"id": "another'))
    (scope,) = world.provider().list()
    assert not scope.complete and "not the one that this cluster was made in" in scope.error
    note.write_text(before)


def test_the_current_context_of_the_docker_command_is_honoured(
    world: DockerWorld, docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    ContextAPI.create_context("elsewhere", host=docker_engine.host)
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    provider = DockerProvider(ProviderContext("c", world.uid, str(tmp_path / "state")))
    (scope,) = provider.list()
    provider.close()
    assert scope.complete, scope.error


def test_no_engine_says_what_to_start(tmp_path: Path) -> None:
    provider = DockerProvider(ProviderContext("c", "u", str(tmp_path), {"host": "unix:///nowhere/docker.sock"}))
    (scope,) = provider.list()
    assert not scope.complete and "DOCKER_HOST" in scope.error
    assert [ok for _, ok, _ in provider.doctor()] == [False]


def test_a_remote_engine_needs_an_address_of_this_machine(world: DockerWorld, docker_engine: DockerEngine) -> None:
    client = docker_engine.client
    from docker.types import IPAMConfig, IPAMPool

    ipam = IPAMConfig(pool_configs=[IPAMPool(subnet="10.214.7.0/24", gateway="10.214.7.9")])
    network = client.networks.create("clusterctl-test-far", internal=True, ipam=ipam, labels={"clusterctl-test": "far"})
    try:
        named = world.open({**world.settings(), "network": "clusterctl-test-far", "head_address": "192.0.2.7"})
        assert isinstance(named, DockerProvider) and named.agent_endpoint() == ("192.0.2.7", "192.0.2.7")
        assert named.sweep() == [] and client.networks.list(
            names=["clusterctl-test-far"]
        )  # the user's own network stays
    finally:
        network.remove()


def test_the_console_shows_why_a_node_ended(world: DockerWorld) -> None:
    argv = ["python3", "-S", "-c", "raise SystemExit('the disk is upside down')"]
    provider: Provider = world.open(world.settings(), agent_argv=argv)
    (made,) = world.create(provider, "cpu-1")
    assert isinstance(provider, HasConsole) and isinstance(provider, HasDoctor)

    def ended() -> Instance | None:
        (scope,) = provider.list()
        return next((i for i in scope.instances if i.state == "terminated"), None)

    gone = wait_until(ended, what="it ended")
    assert gone and "(exit code 1)" in gone.detail
    assert "upside down" in provider.console_log(made.id)
    assert all(ok for _, ok, _ in provider.doctor())


def test_gc_ends_what_nobody_owns_and_a_network_that_was_left_alone(
    world: DockerWorld, docker_engine: DockerEngine
) -> None:
    left, lonely, kept = world.uid, str(uuid.uuid4()), str(uuid.uuid4())
    for uid in (left, lonely, kept):
        world.create(world.provider(uid), "cpu-1", uid=uid)
    provider = world.provider(lonely)
    provider.terminate(list(world.living(provider)))
    world.none_left(provider)
    nobody = ProviderContext("", "", str(world.directory / "scratch"), world.settings())
    strays = collect(
        {("docker", ""): lambda cluster, uid: world.provider(uid) if uid else make_provider("docker", nobody)},
        lambda uid: uid not in (left, lonely),
        time.time(),
        dry_run=False,
        here=maker(),
    )
    found = {stray.uid: (len(stray.instance_ids), stray.removed) for stray in strays}
    assert found == {left: (1, True), lonely: (0, True)}
    networks = docker_engine.client.networks.list(filters={"label": "clusterctl-uid"})
    uids = {network.attrs["Labels"]["clusterctl-uid"] for network in networks}
    assert kept in uids and not uids & {left, lonely}


def test_what_another_user_made_on_the_same_engine_is_not_gcs_to_find(
    world: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = world.provider()
    assert isinstance(provider, HasClusters)
    monkeypatch.setenv("LOGNAME", "somebody-else")
    world.create(provider, "cpu-1")
    monkeypatch.undo()
    assert world.uid not in {uid for _, uid, _ in provider.find_clusters()}


def test_doctor_says_of_each_thing_that_an_engine_lacks_what_to_do(docker_engine: DockerEngine) -> None:
    api = docker_engine.client.api
    good: dict[str, Any] = api.info()
    assert all(ok for _, ok, _ in check_engine(Engine(docker_engine.host, api, good), ""))
    lame = Engine(docker_engine.host, api, {**good, "OSType": "windows", "MemoryLimit": False, "PidsLimit": False})
    wrong = {what: fix for what, ok, fix in check_engine(lame, "") if not ok}
    assert list(wrong) == ["it runs Linux containers", "it limits memory", "it limits processes"] and all(
        wrong.values()
    )


def test_doctor_on_the_command_line_names_the_engine_or_what_to_start(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    def checked(host: str) -> dict[str, Any]:
        environment = {**os.environ, "DOCKER_HOST": host, "CLUSTERCTL_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-m", "clusterctl", "doctor", "--json"], env=environment, capture_output=True
        )
        return next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "docker")

    assert checked(docker_engine.host)["ok"] and docker_engine.host in checked(docker_engine.host)["found"]
    missing = checked("unix:///nowhere/docker.sock")
    assert not missing["ok"] and missing["fix"].startswith("start it (systemctl start docker)")
    assert missing["found"] == "no Docker engine answers at unix:///nowhere/docker.sock (No such file or directory)"


def test_a_container_that_was_killed_for_memory_says_so_and_what_it_had(world: DockerWorld) -> None:
    argv = ["python3", "-S", "-c", "x = [bytearray(b'x') * 2**20 for _ in range(256)]"]
    world.pool = replace(world.pool, spec={**world.pool.spec, "resources": {"CPU": 1, "memory": 64 * 2**20}})
    provider: Provider = world.open(world.settings(), agent_argv=argv)
    world.create(provider, "cpu-1")

    def ended() -> Instance | None:
        (scope,) = provider.list()
        return next((i for i in scope.instances if i.state == "terminated"), None)

    gone = wait_until(ended, what="it ended")
    assert gone and gone.detail.startswith("(exit code 137)")
    assert gone.detail.endswith("the kernel had killed processes in it for memory: its limit of 64 MiB was reached")
