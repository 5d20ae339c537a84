"""Which GPUs of the engine's machine a new container gets: Docker itself would give the first ones to everybody."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import NoCapacity
from clusterctl_providers.docker.container import LABEL_GPUS

_LIST = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]


def choose_gpus(
    count: int, containers: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], node_id: str
) -> Sequence[str] | None:
    """Ids that no other container of ours has, lowest first; None when it is not known which there are. Raises NoCapacity."""
    if not count:
        return ()
    known = [str(item) for item in settings.get("gpu_ids") or ()] or _listed()
    if not known:
        return None
    taken: set[str] = set()
    for container in containers:
        taken.update(str((container.get("Labels") or {}).get(LABEL_GPUS, "")).split(","))
    free = [gpu for gpu in known if gpu not in taken]
    if len(free) < count:
        raise NoCapacity(
            f"{node_id} wants {count} GPUs and {len(free)} of the {len(known)} on this machine are free: wait until other "
            "nodes end, or lower the pool's `max`"
        )
    return free[:count]


def _listed() -> list[str]:
    if shutil.which(_LIST[0]) is None:
        return []
    try:
        answer = subprocess.run(_LIST, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # the driver does not answer: the engine will say so in its own words
    return answer.stdout.split()
