"""What a command on a node left."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CommandResult:
    """`stdout` and `stderr` are the bytes that it wrote."""

    node: str
    code: int
    stdout: bytes
    stderr: bytes

    def document(self) -> dict[str, Any]:
        """As JSON has it: text, and where that is not all of it the bytes as `stdout_base64` and `stderr_base64`."""
        body: dict[str, Any] = {"node": self.node, "code": self.code}
        for name, data in (("stdout", self.stdout), ("stderr", self.stderr)):
            try:
                body[name] = data.decode()
            except UnicodeDecodeError:
                body[name] = data.decode(errors="replace")
                body[f"{name}_base64"] = base64.b64encode(data).decode()
        return body
