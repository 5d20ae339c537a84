"""Commands that install things on nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clusterctl.importing.draft import Draft
from clusterctl.importing.reading import At

# One that installs Ray and nothing else, which the engine does.
_RAY_ALONE = re.compile(
    r"(?:which ray \|\| *)?(?:python3? -m )?(?:uv )?pip3? install(?: -U| --upgrade| -q)* "
    r"(['\"]?)ray(?:\[([a-z, -]*)\])?(?:\s*(?:==\s*([0-9.]+)|@ *\S+|>=[0-9.]+))?\1\s*(?:\|\| true)?"
)
_RAY_TOO = re.compile(r"pip3? install.*[\s'\"]ray(\[|==|@|['\"\s]|$)")


def setup_of(commands: Iterable[At], draft: Draft) -> list[str]:
    """As `setup` has them. Which version of Ray is installed goes to the engine."""
    found: list[str] = []
    for at in commands:
        text = at.text().strip()
        alone = _RAY_ALONE.fullmatch(text)
        if alone:
            at.note("the engine installs Ray itself", "versions and extras are under `engine: {ray: ...}`")
            extras = [one.strip() for one in (alone[2] or "").split(",") if one.strip() not in ("", "default")]
            draft.put(("engine", "ray", "extras"), extras, at)
            draft.ray_version(alone[3] or "", at)
        elif text:
            if _RAY_TOO.search(text):
                at.note("it installs Ray, which the engine does as well", "take Ray out of it, or both will be there")
            found.append(text)
    return found
