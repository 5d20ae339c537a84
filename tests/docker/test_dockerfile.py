"""The image that a spec's Dockerfile makes: its nodes install nothing, and run no setup again."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
from docker.errors import BuildError, ImageNotFound

from tests.docker.conftest import DockerCluster
from tests.support.docker_engine import LABEL, DockerEngine
from tests.support.wheel_index import WheelIndex, kept_wheels, serving, wanted

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE"}}
engine: {ray: {version: "2.60.0"}}
env: {PIP_INDEX_URL: "ADDRESS"}
setup: ["echo once >> /tmp/setup"]
head: {resources: {CPU: 1, memory: 3GiB}}
pools:
  - {name: cpu, min: 0, max: 1, resources: {CPU: 1, memory: 2GiB}}
"""
WHERE = """
import ray
ray.init()

@ray.remote(num_cpus=1)
def where():
    return ray.__file__, open("/tmp/setup").read().split()

print("found", ray.get(where.remote()))
"""


def _with_pip(engine: DockerEngine, image: str, index: WheelIndex) -> str:
    """Debian's Python has none, and apt would need a network."""
    wheel = next(wheel for wheel in index.wheels.values() if wheel.file.startswith("pip-"))
    unpack = "import zipfile; zipfile.ZipFile('/pip.whl').extractall('/usr/lib/python3/dist-packages')"
    files = {"Dockerfile": f'FROM {image}\nCOPY pip.whl /pip.whl\nRUN ["python3", "-c", "{unpack}"]\n'.encode()}
    files["pip.whl"] = index.body(wheel.file)
    return _build(engine, f"{LABEL}/with-pip:1", files)


def _build(engine: DockerEngine, tag: str, files: dict[str, bytes]) -> str:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    context.seek(0)
    build = {"fileobj": context, "custom_context": True, "network_mode": "host", "rm": True, "forcerm": True}
    try:
        engine.client.images.build(tag=tag, labels={LABEL: ""}, **build)
    except BuildError as error:
        pytest.fail("".join(str(line.get("stream") or line) for line in error.build_log)[-2000:])
    return tag


@contextlib.contextmanager
def _removed_afterwards(engine: DockerEngine, *tags: str) -> Iterator[None]:
    try:
        yield
    finally:
        for tag in tags:
            with contextlib.suppress(ImageNotFound):  # it did not come so far
                engine.client.images.remove(tag, force=True)


def test_nodes_of_an_image_that_its_dockerfile_made_install_nothing_and_run_no_setup_again(
    make_cluster: Callable[..., DockerCluster], docker_engine: DockerEngine, image: str
) -> None:
    made = f"{LABEL}/made:1"
    with (
        serving(*kept_wheels(wanted(python="3.11"))) as index,
        _removed_afterwards(docker_engine, made, f"{LABEL}/with-pip:1"),
    ):
        spec = SPEC.replace("IMAGE", _with_pip(docker_engine, image, index)).replace("ADDRESS", index.url)
        cluster = make_cluster(spec, up=False)
        cluster.cli("image", "dockerfile", "cluster.yaml", "--out", "Dockerfile")
        _build(docker_engine, made, {"Dockerfile": (cluster.directory / "Dockerfile").read_bytes()})
        cluster.spec.write_text(spec.replace(f"{LABEL}/with-pip:1", made))
        index.asked.clear()
        cluster.up()
        (cluster.directory / "job.py").write_text(WHERE)
        job = cluster.submit(str(cluster.directory / "job.py"))
        cluster.wait_job(job, "succeeded")
        told = cluster.cli("logs", job).stdout
        assert "found ('/usr/local/lib/python3.11/dist-packages/ray/__init__.py', ['once'])" in told
        assert index.asked == []
        cluster.down()
