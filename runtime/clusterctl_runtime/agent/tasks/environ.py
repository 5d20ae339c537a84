"""The environment of a task: what is stated, then the head's words, then ours.

An agent is started by `up` in somebody's shell, by systemd, by cron after a reboot, by another agent. What that had in its
environment must not decide what a job sees: of it only how this machine reaches others, and where its programs are, is kept.
In a container the image's variables are part of the node: all of them are kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

TASK_MARK = "CLUSTERCTL_TASK"  # its id, in every task's environment
STATED_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STATED_LANG = "C.UTF-8"  # there is no other that every machine has

# How this machine is and how it reaches others. No secret of the user's shell, no Python's, no other cluster's.
_MACHINE = re.compile(
    r"^(PATH|HOME|SHELL|TMPDIR|LD_LIBRARY_PATH|(?:https?|ftp|all|no)_proxy|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|CURL_CA_BUNDLE|PIP_.*|UV_.*)$",
    re.IGNORECASE,
)
_OURS = re.compile(r"^(CLUSTERCTL_.*|CUDA_VISIBLE_DEVICES)$")  # for the agent itself
# Settings of other clusters and gangs: none of them leak into a task, in a container either.
_WITHHELD = re.compile(
    r"^(CLUSTERCTL_(?!INSTANCE$|LEASH$|FILES$|MOUNTS$).*|RAY_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_RANK|NODE_RANK"
    r"|MASTER_ADDR|MASTER_PORT|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER)$"
)


class NotReady(Exception):
    """Something the task needs on this node is missing; the message says what."""


def state_environment(environment: MutableMapping[str, str], of_image: bool) -> None:
    """Makes an agent's own environment be what is stated, so that all that it starts inherits just that. `of_image`: it came
    with the node."""
    if not of_image:
        for name in [name for name in environment if not _MACHINE.match(name) and not _OURS.match(name)]:
            del environment[name]
        environment["LANG"] = STATED_LANG
    user, home, shell = _user()
    stated = {"PATH": STATED_PATH, "HOME": home, "SHELL": shell, "USER": user, "LOGNAME": user, "LANG": STATED_LANG}
    for name, value in stated.items():
        environment.setdefault(name, value)


def base_environment() -> dict[str, str]:
    """What every task on this node starts from."""
    return {name: value for name, value in os.environ.items() if not _WITHHELD.match(name)}


def machine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What is kept of the environment that an agent was started with."""
    return {name: value for name, value in environment.items() if _MACHINE.match(name)}


def _user() -> tuple[str, str, str]:
    """Name, home and shell; a number without a name has what Docker gives it."""
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid-{os.getuid()}", "/", "/bin/sh"
    return entry.pw_name, entry.pw_dir or "/", entry.pw_shell or "/bin/sh"
