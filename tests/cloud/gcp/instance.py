"""One instance of the pretended Compute Engine, as tests and machines see it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.cloud.gcp.quotas import market_of
from tests.cloud.gcp.store import Resource, name_of
from tests.cloud.gcp.world import Failure


@dataclass(eq=False)
class Instance:
    """`body`: as the API shows it. `id` names its machine."""

    key: str
    body: Resource
    since: float  # by the world's clock
    holds: bool = True  # its capacity is taken
    reservation: Resource | None = None  # that its capacity is part of
    failure: Failure | None = None  # for which it came to nothing
    preempted: bool = False  # it has been told that it will be
    maintenance: str = "NONE"  # what it has been told of its host

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def name(self) -> str:
        return str(self.body["name"])

    @property
    def zone(self) -> str:
        return name_of(self.body["zone"])

    @property
    def handle(self) -> str:
        """ZONE/NAME."""
        return f"{self.zone}/{self.name}"

    @property
    def status(self) -> str:
        return str(self.body["status"])

    @property
    def type(self) -> str:
        return name_of(self.body["machineType"])

    @property
    def market(self) -> str:
        return market_of(self.body)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.body.get("labels", {}))

    @property
    def metadata(self) -> dict[str, str]:
        return {item["key"]: item.get("value", "") for item in self.body.get("metadata", {}).get("items", [])}

    @property
    def address(self) -> str:
        return str(self.body["networkInterfaces"][0].get("networkIP", ""))
