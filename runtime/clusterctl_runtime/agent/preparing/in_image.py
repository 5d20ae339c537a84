"""Setup commands that a container's image has run already: the image says so itself (`clusterctl image dockerfile`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

VARIABLE = "CLUSTERCTL_SETUP_IN_IMAGE"  # digests of the commands, in their order, with commas between them


def noted(commands: Sequence[str]) -> str:
    """The variable's value in an image that has run these."""
    return ",".join(_digests(commands))


def done_in_image(commands: Sequence[str], environment: Mapping[str, str]) -> int:
    """How many of the first commands are the image's own: all that it has run, or none. Where it has run another one before
    them, what they would find is not what they were written for."""
    known = [digest for digest in environment.get(VARIABLE, "").split(",") if digest]
    return len(known) if known and _digests(commands[: len(known)]) == known else 0


def _digests(commands: Sequence[str]) -> list[str]:
    return [hashlib.sha256(command.encode()).hexdigest() for command in commands]
