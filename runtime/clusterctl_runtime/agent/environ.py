"""The environment of a task: the agent's own without what is none of its business, then the head's words, then ours."""

from __future__ import annotations

import os
import re

TASK_MARK = "CLUSTERCTL_TASK"  # its id, in every task's environment

# The shell that started a local cluster may hold settings of other clusters and gangs: none of them leak into a task.
_WITHHELD = re.compile(
    r"^(CLUSTERCTL_(?!INSTANCE$|LEASH$|FILES$).*|RAY_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_RANK|NODE_RANK"
    r"|MASTER_ADDR|MASTER_PORT|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER)$"
)


class NotReady(Exception):
    """Something the task needs on this node is missing; the message says what."""


def base_environment() -> dict[str, str]:
    """What every task on this node starts from."""
    return {name: value for name, value in os.environ.items() if not _WITHHELD.match(name)}
