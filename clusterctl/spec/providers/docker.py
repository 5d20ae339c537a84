"""`provider: docker`: containers of one engine."""

from __future__ import annotations

from pydantic import Field

from clusterctl.spec.base import Size, SpecModel
from clusterctl.spec.providers.kind import Kind, Library, Search


class DockerSettings(SpecModel):
    """Nodes are containers."""

    image: str = Field(default="", description="Image of every node, unless a pool names its own.")
    host: str = Field(default="", description="Address of the Docker engine; default: that of the docker command.")
    network: str = Field(default="", description="A network that exists; default: one of the cluster's own.")
    engine_env: str = Field(
        default="",
        description="A virtual environment of this machine that has Ray; containers see it, and the Python that it was "
        "made from, read-only under the same path. Default: the image has Ray.",
        examples=["/opt/ray-env"],
    )
    mounts: list[str] = Field(
        default=[],
        description="Directories of the engine's machine that containers see, as SOURCE[:TARGET[:ro]].",
        examples=[["/data:/data:ro"]],
    )
    ports: list[str] = Field(
        default=[],
        description="Ports of the head node to publish on 127.0.0.1, as PORT or PORT_HERE:PORT_IN_THE_CONTAINER.",
        examples=[["8000", "18080:8080"]],
    )
    shm_size: Size | None = Field(
        default=None, description="Size of /dev/shm of a node; default: half of its memory.", examples=["4GiB"]
    )
    pids: int | None = Field(
        default=None, ge=64, description="Processes and threads that a node may have; default: 16384."
    )
    allow_sudo: bool = Field(
        default=False,
        description="Let programs in the containers gain rights, as sudo and su do; by default the kernel refuses it.",
    )
    gpu_ids: list[str] = Field(
        default=[],
        description="GPUs to hand out, as nvidia-smi names them; default: all that it lists.",
        examples=[["0", "1"]],
    )
    head_address: str = Field(
        default="",
        description="Address of this machine that containers reach; default: their network's gateway. Needed where the "
        "engine is remote or rootless.",
        examples=["192.168.1.20"],
    )


KIND = Kind(
    name="docker",
    title="Docker",
    settings=DockerSettings,
    works=True,
    machine="container",
    head="here",
    changes={
        "host": "refused",
        "network": "refused",
        "head_address": "refused",
        "image": "replace",
        "engine_env": "replace",
        "mounts": "replace",
        "ports": "replace",
        "shm_size": "replace",
        "pids": "replace",
        "allow_sudo": "replace",
        "gpu_ids": "replace",
    },
    foreign=frozenset(
        {"instances", "instance", "zones", "zone", "disk", "hosts", "host", "market", "reservation", "keep_stopped"}
    ),
    starters={"docker": "tasks"},
    other_names=("podman", "containers"),
    boot_seconds=3.0,
    search=Search(where=("host",), looked="tried", note="engine.json"),
    library=Library(extra="docker", modules=("docker",)),
)
