"""Where requests of a service go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One server behind a name. `id` names it for good: whatever else about it changes, it is another one. `prefix` is put
    before the rest of the request's path, as in "/v3". `check` is how it is known to be well: None for never asked (it
    always is), "" for a connection that it accepts, else a path whose GET it answers with 2xx."""

    id: str
    host: str
    port: int
    prefix: str = ""
    check: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Target:
        return cls(**data)
