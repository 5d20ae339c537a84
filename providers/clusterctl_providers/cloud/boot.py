"""User data of a cloud machine: a fixed script, then one JSON document that the script reads as data.

AWS           UserData, 16 KiB
Google Cloud  the metadata key `startup-script`, 256 KiB, run at each boot by the guest agent of any image
Azure         osProfile.customData, 64 KiB, read by cloud-init
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from clusterctl.core.errors import BadRequest

_FOR_READERS = re.compile(r'^ *(?:# .*|"""[^"\n]*""")\n', re.MULTILINE)  # comments and docstrings of one line


class TooLarge(BadRequest):
    """Fewer nodes in one launch would do."""


@lru_cache(maxsize=1)
def boot_script() -> str:
    """The text of node.sh without what only a reader needs: user data is short on some clouds. Read once in a process."""
    file = resources.files("clusterctl_templates").joinpath("cloud-init").joinpath("node.sh")
    return _FOR_READERS.sub("", file.read_text(encoding="utf-8"))


def user_data(boot: Mapping[str, Any], nodes: Sequence[tuple[str, int, str]], most: int) -> str:
    """`boot` is what all nodes of a launch share, `nodes` are (node id, generation, join token) by launch index. The
    one-time join tokens are the only secrets in it. Raises TooLarge beyond `most` bytes."""
    document = json.dumps({"boot": dict(boot), "nodes": [list(node) for node in nodes]}, separators=(",", ":"))
    text = f"{boot_script().rstrip()}\n{document}\n"
    if len(text.encode()) > most:
        raise TooLarge(
            f"the user data of {len(nodes)} nodes has {len(text.encode())} bytes, over the {most} that the cloud takes: "
            "shorten the cluster's labels or resources"
        )
    return text
