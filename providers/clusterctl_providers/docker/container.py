"""The container of a node: what it is called, what it may use, and what is put into it before it starts."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount

from clusterctl.core.errors import BadRequest
from clusterctl_providers.base import TAG_MAKER, CreateRequest, ProviderContext
from clusterctl_providers.docker.client import Engine
from clusterctl_providers.docker.images import Image
from clusterctl_providers.docker.mounts import binds
from clusterctl_providers.docker.network import Network
from clusterctl_providers.this_machine import maker

ROOM = "/clusterctl"  # in the container: the agent, its bootstrap and its directory; short, since sockets live below it
BUNDLE, BOOTSTRAP = f"{ROOM}/agent.pyz", f"{ROOM}/bootstrap.json"
LABEL_GPUS = "clusterctl-gpus"  # the engine's GPUs that the container has, "0,1"
PIDS = 16384  # Docker counts threads, and each of Ray's workers has dozens
SHARED_MEMORY = (
    0.5  # of a node's memory; a cap, not an allocation. Ray takes 30 % for its objects, torch wants some as well
)
# Nothing that a job or a package manager does needs these.
DROPPED = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT")


def container_name(cluster: str, node_id: str, token: str) -> str:
    """Follows from the token, which is unique for ever: the engine itself refuses a second one."""
    return f"clusterctl-{cluster}-{node_id}-{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def creation(
    engine: Engine,
    context: ProviderContext,
    request: CreateRequest,
    image: Image,
    network: Network,
    gpus: Sequence[str] | None,
    mounts: Sequence[Mount],
) -> dict[str, Any]:
    """The arguments of the SDK's create_container. `gpus`: ids to give, () for none, None where nobody knows their ids and the
    engine chooses. `mounts`: of its volumes."""
    settings, api = context.settings, engine.api
    resources = request.offer.resources
    memory = int(resources.get("memory") or engine.memory)
    cpus = min(resources.get("CPU") or engine.cpus, engine.cpus)  # a limit above what there is would be refused
    host_config = api.create_host_config(
        network_mode=network.id,
        nano_cpus=int(cpus * 1e9) or None,
        mem_limit=memory,
        memswap_limit=memory,  # no swap besides
        shm_size=int(settings.get("shm_size") or memory * SHARED_MEMORY),
        pids_limit=int(settings.get("pids") or PIDS),
        init=True,
        privileged=False,
        cap_drop=list(DROPPED),
        security_opt=None if settings.get("allow_sudo") else ["no-new-privileges"],
        binds=binds(settings, engine.host, context.engine_shared) or None,
        mounts=list(mounts) or None,
        device_requests=_devices(request, gpus),
        port_bindings=_published(request, settings),
        extra_hosts={"host.docker.internal": "host-gateway"} if engine.is_desktop else None,
        log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "5m", "max-file": "2"}),
    )
    labels = {**request.tags, TAG_MAKER: maker()}
    if gpus:
        labels[LABEL_GPUS] = ",".join(gpus)
    return {
        "image": image.id,
        "name": container_name(context.cluster, request.node_id, request.token),
        "hostname": request.node_id,
        "entrypoint": [*(context.agent_argv or ["python3", "-I", BUNDLE]), "--bootstrap", BOOTSTRAP],
        "working_dir": "/",
        "environment": {"CLUSTERCTL_NODE": request.node_id},
        "labels": labels,
        "ports": list(_ports(request, settings)),
        "host_config": host_config,
        "networking_config": {network.name: api.create_endpoint_config(aliases=[request.node_id])},
    }


def seed(request: CreateRequest, context: ProviderContext, image: Image) -> bytes:
    """A tar archive for "/": the agent and its bootstrap, readable by the image's user alone."""
    bundle = context.agent_bundle
    try:
        agent = b"" if context.agent_argv else Path(bundle).read_bytes()
    except OSError as error:
        raise BadRequest(
            f"the agent bundle {bundle or '(not set)'} cannot be read ({error.strerror}): reinstall clusterctl and run `up` again"
        ) from error
    document = json.dumps({**request.bootstrap, "of_image": True, "directory": f"{ROOM}/node"}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, mode, data in ((ROOM, 0o700, None), (BUNDLE, 0o500, agent), (BOOTSTRAP, 0o600, document)):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.uid, entry.gid = mode, image.user, image.group
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.size = len(data or b"")
            archive.addfile(entry, io.BytesIO(data) if data is not None else None)
    return buffer.getvalue()


def _devices(request: CreateRequest, gpus: Sequence[str] | None) -> list[DeviceRequest] | None:
    """What `docker run --gpus` asks for."""
    count = int(request.offer.resources.get("GPU"))
    if not count:
        return None
    if gpus is None:
        return [DeviceRequest(count=count, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])]


def _published(request: CreateRequest, settings: Mapping[str, Any]) -> dict[int, tuple[str, int]] | None:
    """Ports of the head node, reachable on this machine's loopback and nowhere else."""
    return {inside: ("127.0.0.1", outside) for inside, outside in _ports(request, settings).items()} or None


def _ports(request: CreateRequest, settings: Mapping[str, Any]) -> dict[int, int]:
    """Port in the container -> port here, of "8000" or "18000:8000"."""
    ports: dict[int, int] = {}
    if request.pool.role == "head":
        for text in settings.get("ports") or ():
            outside, _, inside = str(text).partition(":")
            if not outside.isdecimal() or not (inside or outside).isdecimal():
                raise BadRequest(f"provider.docker.ports: {text!r} is not PORT or PORT_HERE:PORT_IN_THE_CONTAINER")
            ports[int(inside or outside)] = int(outside)
    return ports
