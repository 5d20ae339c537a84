"""Why a host cannot be used."""

from __future__ import annotations

import re

from clusterctl.core.errors import ClusterctlError

_UNSEEN = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")


class HostTrouble(ClusterctlError):
    """A host cannot be used. `code` is for machines, the message a sentence with its fix."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def said(text: bytes | str, most: int = 300) -> str:
    """The end of what a host said, for a sentence: one line, without what would move a terminal's cursor."""
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    plain = " ".join(_UNSEEN.sub(" ", words).split())
    return plain if len(plain) <= most else f"...{plain[-most:]}"
