"""What became of one action of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from clusterctl.core.model import Action, Node


@dataclass(frozen=True)
class Outcome:
    """What became of one action. `code` and `error` (a sentence) are set when not `ok`; `node` is its record now.
    `action` is None for a launch or an end that an earlier process left unfinished."""

    action: Action | None
    ok: bool
    code: str = ""
    error: str = ""
    node: Node | None = None
