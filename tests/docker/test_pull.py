"""Images that the engine does not have yet: `up` shows how far their pull is, and why it failed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator

import pytest
from clusterctl_providers.docker.provider import DockerProvider

from clusterctl.core.errors import BadRequest, NotYet
from clusterctl.core.model import Instance
from tests.docker.conftest import DockerCluster
from tests.docker.world import DockerWorld
from tests.support.cluster import wait_until
from tests.support.docker_engine import BUILD, DockerEngine, cache_directory
from tests.support.registry import Registry

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE"}}
engine: none
head: {resources: {CPU: 1, memory: 512MiB}, image: "HERE"}
pools: [{name: cpu, min: 1, max: 1, resources: {CPU: 1, memory: 256MiB}}]
"""


def noise() -> dict[str, tuple[int, bytes]]:
    """A layer that the engine has never seen."""
    return {"noise": (0o600, os.urandom(2_000_000))}


@contextlib.contextmanager
def served(engine: DockerEngine, *layers: object) -> Iterator[Registry]:
    with Registry(*layers) as registry:  # type: ignore[arg-type]
        try:
            yield registry
        finally:
            registry.go_on.set()
            with contextlib.suppress(Exception):
                engine.client.images.remove(registry.name, force=True)


def test_up_shows_the_layers_and_bytes_of_a_pull_as_the_nodes_stage_and_goes_on_when_it_is_done(
    make_cluster: Callable[..., DockerCluster], docker_engine: DockerEngine, image: str
) -> None:
    rootfs = cache_directory() / f"rootfs-{hashlib.sha256(BUILD.read_bytes()).hexdigest()[:12]}.tar"
    with served(docker_engine, rootfs, noise()) as registry:
        registry.hold_in_layer(1)
        cluster = make_cluster(SPEC.replace("IMAGE", registry.name).replace("HERE", image), up=False)
        up = cluster.start("up", str(cluster.spec), "-y", "--json")
        assert registry.held.wait(60), "the layer is asked for"
        node = wait_until(lambda: next((n for n in cluster.status()["nodes"] if "layers (" in n["reason"]), None))
        assert node and node["id"] == "cpu-1" and node["state"] == "planned"
        assert node["reason"].startswith("pulling ") and node["reason"].endswith(f" of the image {registry.name}")
        assert "0 of 2 layers (" in node["reason"] or "1 of 2 layers (" in node["reason"]

        def ready() -> list[str]:
            return [n["id"] for n in cluster.status()["nodes"] if n["state"] == "ready"]

        wait_until(lambda: ready() == ["head-1"], what="others go on")
        registry.go_on.set()
        _, errors = up.communicate(timeout=120)
        assert up.returncode == 0, errors
        assert "cpu-1: planned, pulling (pulling " in errors
        story = [item["reason"] for item in cluster.json("explain", "cpu-1")["story"]]
        assert sum(reason.startswith("pulling") for reason in story) == 1, "the story is not filled with bytes"
        cluster.down()


@pytest.fixture
def world(docker_engine: DockerEngine) -> Iterator[DockerWorld]:
    place = DockerWorld()
    yield place
    place.close()


def asked(world: DockerWorld, provider: DockerProvider) -> Exception | Instance:
    """What comes of a create, asked again and again as the head does."""

    def answer() -> Exception | Instance | None:
        (result,) = provider.create([world.request(provider, "cpu-1")])
        return None if isinstance(result, NotYet) else result

    result = wait_until(answer, what="a clear answer")
    assert result is not None
    return result


def opened(world: DockerWorld, image: str) -> DockerProvider:
    provider = world.open({**world.settings(), "image": image})
    assert isinstance(provider, DockerProvider)
    return provider


def test_a_pull_that_fails_is_said_with_the_image_and_what_the_registry_said(
    world: DockerWorld, docker_engine: DockerEngine
) -> None:
    with served(docker_engine, noise()) as registry:
        registry.manifest = registry.manifest.replace(b'"digest": "sha256:', b'"digest": "sha256:0000', 1)
        provider = opened(world, registry.name)
        failed = asked(world, provider)
        assert isinstance(failed, BadRequest) and registry.name in str(failed) and "docker pull" in str(failed)
    with served(docker_engine, noise()) as registry:
        provider = opened(world, registry.name.replace(":1", ":2"))
        failed = asked(world, provider)
        assert isinstance(failed, BadRequest) and "manifest unknown" in str(failed).lower()


def test_an_image_that_is_pulled_and_has_no_python_is_named_in_a_sentence(
    world: DockerWorld, docker_engine: DockerEngine
) -> None:
    with served(docker_engine, noise()) as registry:
        failed = asked(world, opened(world, registry.name))
    assert isinstance(failed, BadRequest) and "no python3 on its PATH" in str(failed) and registry.name in str(failed)


def test_sixteen_launches_share_one_pull(world: DockerWorld, docker_engine: DockerEngine) -> None:
    with served(docker_engine, noise()) as registry:
        registry.hold_in_layer(0)
        provider = opened(world, registry.name)
        requests = [world.request(provider, f"cpu-{n}") for n in range(16)]
        answers = provider.create(requests)
        assert registry.held.wait(60)
        assert all(isinstance(answer, NotYet) for answer in answers)
        assert provider.list()[0].instances == ()
