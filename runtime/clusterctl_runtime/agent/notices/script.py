"""A cloud that is only imagined leaves a file in the node's directory that says what is announced from when on."""

from __future__ import annotations

import json
import time
from pathlib import Path

from clusterctl_runtime.agent.notices.source import Notice


class Script:
    """{"action", "time", "from"}, times in unix seconds."""

    every = 0.5

    def __init__(self, path: Path) -> None:
        self._path = path

    def notice(self) -> Notice | None:
        try:
            data = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return (str(data["action"]), float(data["time"])) if time.time() >= float(data["from"]) else None
