"""A VM of the pretended Azure, beyond what its resource says."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.cloud.azure.sizes import Size
from tests.cloud.azure.store import Resource, name_of
from tests.cloud.azure.world import Failure


@dataclass
class Machine:
    """`id` is the one that Azure gives it (vmId), `key` that of its resource. `power`: the last part of its power state, "" for
    one that never was anywhere. `holds`: it has capacity."""

    key: str
    resource: Resource
    size: Size
    region: str
    zone: str
    market: str
    user_data: bytes = b""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    power: str = ""
    holds: bool = False
    reservation: str = ""  # the id of the capacity reservation whose capacity it has
    failure: Failure | None = None
    deleting: bool = False
    generalized: bool = False
    since: float = 0.0  # by the world's clock
    events: list[dict[str, Any]] = field(default_factory=list)  # scheduled ones, as its metadata service tells them
    incarnation: int = 0  # how often its events changed
    powers: list[tuple[float, str]] = field(default_factory=list)  # what its power state was from when on

    @property
    def name(self) -> str:
        return name_of(self.key)

    @property
    def state(self) -> str:
        return str(self.resource["properties"]["provisioningState"])

    @property
    def properties(self) -> dict[str, Any]:
        return self.resource["properties"]
