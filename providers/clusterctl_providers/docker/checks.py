"""What `doctor` asks of a Docker engine that answers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterctl_providers.docker.client import TROUBLE, Engine
from clusterctl_providers.docker.network import is_ours

ROOM = 5 * 2**30  # bytes: an image with Ray takes about half of them
Finding = tuple[str, bool, str]  # what was checked, whether it is so, what to do


def check_engine(engine: Engine, head_address: str) -> list[Finding]:
    """`head_address` is the setting, "" for none. Disk and GPUs are checked only where that can be done from here."""
    info = engine.info
    findings = [
        (f"the Docker engine {info.get('ServerVersion')} at {engine.host} answers", True, ""),
        ("it runs Linux containers", info.get("OSType") == "linux", "switch it to Linux containers"),
        ("it limits memory", bool(info.get("MemoryLimit")), "enable the memory cgroup (cgroup_enable=memory)"),
        ("it limits processes", bool(info.get("PidsLimit", True)), "enable the pids cgroup"),
        (
            "containers reach this machine at their gateway",
            bool(head_address) or engine.is_desktop or _reached(engine),
            "the engine is remote or rootless: set provider.docker.head_address to an address of this machine that containers "
            "reach",
        ),
    ]
    return findings + _disk(info) + _gpus(info)


def _reached(engine: Engine) -> bool:
    """Whether the gateway of its default network is an address of this machine. Where there is no such network, the cluster's
    own will show."""
    try:
        pools: list[Mapping[str, Any]] = (engine.api.inspect_network("bridge").get("IPAM") or {}).get("Config") or []
    except TROUBLE:
        return True
    gateways = [str(pool["Gateway"]).partition("/")[0] for pool in pools if pool.get("Gateway")]
    return not gateways or any(is_ours(gateway) for gateway in gateways)


def _disk(info: Mapping[str, Any]) -> list[Finding]:
    """Only of an engine whose disk is here."""
    root = Path(str(info.get("DockerRootDir") or "/nowhere"))
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return []
    what = f"{root} has room for images ({free / 2**30:.0f} GiB free)"
    return [(what, free >= ROOM, "remove images that nobody needs: docker image prune -a")]


def _gpus(info: Mapping[str, Any]) -> list[Finding]:
    """Only where this machine has GPUs."""
    if shutil.which("nvidia-smi") is None:
        return []
    known = [*(info.get("Runtimes") or {}), *(str(device.get("ID")) for device in info.get("DiscoveredDevices") or [])]
    return [
        (
            "it gives containers GPUs",
            any("nvidia" in name for name in known),
            "install the NVIDIA container toolkit and restart the engine (nvidia-ctk runtime configure)",
        )
    ]
