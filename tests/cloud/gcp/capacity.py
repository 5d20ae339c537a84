"""What there is room for: the capacity of a zone, reservations that are consumed, and quotas."""

from __future__ import annotations

from tests.cloud.gcp.facts import ZONES, machine_type, region_of
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.launch import Launch
from tests.cloud.gcp.quotas import Quotas, sold_as
from tests.cloud.gcp.reservations import Reservations
from tests.cloud.gcp.world import PROJECT, Failure, World


class Capacity:
    def __init__(self, world: World, quotas: Quotas, reservations: Reservations) -> None:
        self._world, self._quotas, self._reservations = world, quotas, reservations

    def refusal(self, launch: Launch, count: int = 1) -> Failure | None:
        """Takes capacity for one, or says why there is none."""
        try:
            self.reserve(launch, count, count)
        except Failure as failure:
            return failure
        return None

    def reserve(self, launch: Launch, least: int, most: int) -> int:
        """Capacity for so many; raises Failure."""
        if launch.failure:
            raise launch.failure
        launch.reservation = self._reservations.consumed(launch.body, launch.zone, launch.market, most)
        if launch.reservation:
            self._reservations.use(launch.reservation, most)
            return most
        over = self._quotas.refusal(launch.type.name, launch.zone, launch.market, launch.accelerators, most)
        if over:
            raise over
        try:
            return self._world.take(launch.sold_as, launch.zone, launch.market, launch.type.vcpus, least, most)
        except Failure as failure:
            if failure.http != 503:
                raise
            raise self.no_room(launch, least) from None

    def no_room(self, launch: Launch, least: int = 1) -> Failure:
        """What the zone answers, and which others would not."""
        region = region_of(launch.zone)
        elsewhere = tuple(
            zone
            for zone in ZONES
            if zone != launch.zone and region_of(zone) == region and self._world.sells(launch.type.name, zone)
            and self._world.free(launch.sold_as, zone, launch.market) >= least
        )  # fmt: skip
        return self._world.exhausted(launch.type.name, launch.zone, launch.attachment, PROJECT, elsewhere)

    def take(self, instance: Instance) -> None:
        """Its capacity, again; raises Failure."""
        instance.reservation = self._reservations.consumed(instance.body, instance.zone, instance.market, 1)
        if instance.reservation:
            self._reservations.use(instance.reservation, 1)
            instance.holds = True
            return
        found = machine_type(instance.type)
        self._world.take(sold_as(instance.body), instance.zone, instance.market, found.vcpus if found else 0, 1, 1)
        instance.holds = True

    def give_back(self, instance: Instance) -> None:
        """Its capacity."""
        if not instance.holds:
            return
        instance.holds = False
        if instance.reservation:
            self._reservations.use(instance.reservation, -1)
        else:
            found = machine_type(instance.type)
            self._world.give_back(sold_as(instance.body), instance.zone, instance.market, found.vcpus if found else 0)
