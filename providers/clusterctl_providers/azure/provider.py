"""The Azure provider: nodes are virtual machines in one region and one resource group, each asked for by its name.

Settings (under `provider: {azure: ...}`) are those of `clusterctl.spec.providers.azure.AzureSettings`. What any cloud needs is in
`clusterctl_providers.cloud`; what lies beside this module gives it Azure's calls, errors and nouns:

    calls, errors, login, names   how Azure is spoken to, and how things are called there
    machines                      what a VM is, launched, listed, ended and started
    images                        looked up, built and kept
    market                        what is sold at what price, quotas, reservations
    network                       the resource group, the network, its rules and addresses
    rights, roles                 identities, roles, policies and locks
    head, bastion                 the head's machine and the way to it
    doctor, review                what is missing, told before anything is made
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed, Offer
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.console import console_log
from clusterctl_providers.azure.doctor import USUAL, examine, image_rows
from clusterctl_providers.azure.head import HeadParts
from clusterctl_providers.azure.images.build import BUILDERS, AzureBuild
from clusterctl_providers.azure.images.lookup import Images
from clusterctl_providers.azure.images.store import AzureImages
from clusterctl_providers.azure.machines.body import DISK, GPU_DISK
from clusterctl_providers.azure.machines.instances import VmRows
from clusterctl_providers.azure.machines.launch import VmLaunches
from clusterctl_providers.azure.machines.placement import Placement
from clusterctl_providers.azure.machines.power import VmPower
from clusterctl_providers.azure.market.market import VmMarket
from clusterctl_providers.azure.market.prices import PriceList
from clusterctl_providers.azure.market.quotas import Limits, limit_rows
from clusterctl_providers.azure.market.reservations import Lookup
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.names import is_id
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.azure.review import Review
from clusterctl_providers.azure.rights.identity import Identity
from clusterctl_providers.base import (
    AddressHolder,
    CreateRequest,
    CreateResult,
    HeadDisk,
    ImageRecipe,
    MadeImage,
    NetworkPlace,
    Objection,
    PoolRequest,
    ProviderContext,
    StoredImage,
    Whereabouts,
)
from clusterctl_providers.catalog import instance_types, user_directory
from clusterctl_providers.cloud.book import BatchBook
from clusterctl_providers.cloud.image_build import ImageBuild
from clusterctl_providers.cloud.image_store import ImageStore
from clusterctl_providers.cloud.launch import Launcher
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.offers import Offers
from clusterctl_providers.cloud.power import Power
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import Reservations


class AzureProvider:
    name = "azure"
    settle_seconds = 2.0  # so long a list may lag behind
    in_flight_seconds = 10.0  # so long a PUT may take to show for a caller that is gone

    def __init__(self, context: ProviderContext) -> None:
        settings = self._settings = context.settings
        self._uid = context.uid
        self._calls = Calls(settings)
        self.scopes: Sequence[str] = (self._calls.region,)
        head = context.head_machine
        ssh_from = settings.get("ssh_from") if head is None else head.ssh_from
        self._network = Network(self._calls, settings, context.cluster, context.uid, ssh_from, head)
        group = self._network.group
        self.identity = Identity(self._calls, settings, group)
        self._calls.login_as = lambda: self.identity.heads_login
        self._head = HeadParts(self._calls, settings, self._network)
        self._images = Images(self._calls)
        self._skus = Skus(self._calls)
        self._quotas = Quotas(Limits(self._calls))
        self._rows = VmRows(self._calls, context.cluster, context.uid, group)
        self._listing = Listing(self._rows)
        self._power = Power(VmPower(self._calls, self._rows), self._listing)
        reservations = Reservations(Lookup(self._calls, group))
        prices = PriceList(settings, None if settings.get("endpoint_url") else user_directory())
        market = VmMarket(self._calls, prices, self._skus)
        self._offers = Offers(market, reservations)
        self._review = Review(self._calls, settings, self._network, self._skus, self._images)
        launches = VmLaunches(
            self._calls,
            settings,
            context.auth,
            context.cluster,
            context.uid,
            self._network,
            self.identity,
            self._images,
            self._skus,
            self._quotas,
            self._rows,
            self._listing,
            reservations,
            Placement(self._calls, group, self._network.part),
            head,
        )
        self._launcher = Launcher(launches, BatchBook(Path(context.state_dir) / "azure-launches"))

    @property
    def offers_last(self) -> float:
        """Seconds; 0 where what is free of a reservation changes from one moment to the next."""
        return self._offers.last

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        return self._launcher.launch(requests)

    def list(self) -> list[Observed]:
        return [self._listing.observe(self.scopes[0])]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        return self._listing.look_up([i for i in instance_ids if is_id(i)])

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._power.terminate(instance_ids)

    def stop(self, instance_ids: Sequence[str]) -> None:
        self._power.stop(instance_ids)

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        return self._power.start(instance_ids)

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return self._offers.of(pool)

    def review(self, pools: Sequence[PoolRequest]) -> list[Objection]:
        return self._review.of(pools)

    def catalogue_offers(self, pool: PoolRequest) -> list[Offer]:
        return self._offers.shipped(pool)

    def build_image(self, pool: PoolRequest, recipe: ImageRecipe, tell: Callable[[str], None]) -> MadeImage:
        """For the architecture of the pool's cheapest type, x86-64 where it names none."""
        offers = self._offers.shipped(pool)
        machine = next((m for m in instance_types("azure") if offers and m.name == offers[0].instance_type), None)
        nvidia = machine is not None and machine.gpu_vendor == "nvidia"
        arch = machine.arch if machine else "x86_64"
        base = self._images.find(str(pool.spec.get("image") or ""), arch, nvidia)
        disk = int(pool.spec.get("disk") or max(base.size, GPU_DISK if nvidia else DISK))
        build = ImageBuild(AzureBuild(self._calls, self._settings, self._network, base), self._uid, tell)
        return build.make(base.id, base.arch, BUILDERS[arch], recipe, disk)

    def images(self) -> list[StoredImage]:
        return ImageStore(AzureImages(self._calls)).list()

    def remove_image(self, image: StoredImage) -> None:
        ImageStore(AzureImages(self._calls)).remove(image)

    def agent_endpoint(self) -> tuple[str, str]:
        """The head runs on this machine: nodes reach it at the address that the user wrote down."""
        address = str(self._settings.get("head_address") or "127.0.0.1")
        return address, address

    def head_disk(self) -> HeadDisk | None:
        return self._head.disk()

    def make_head_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        return self._head.make_disk(zone, size, token)

    def attach_head_disk(self, disk: HeadDisk, instance_id: str) -> bool:
        return self._head.attach(disk, instance_id)

    def whereabouts(self, instance_id: str) -> Whereabouts:
        return self._head.whereabouts(instance_id)

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        return self._head.address_holder(place)

    def renew_access(self) -> None:
        self._network.renew_access()
        self.identity.renew()

    def sweep(self) -> list[str]:
        """The cluster's own resource group goes last, and takes along whatever is left in it."""
        waiting = [*self._network.sweep(), *self.identity.sweep()]
        return waiting or self._network.remove_group()

    def console_log(self, instance_id: str) -> str:
        return console_log(self._calls, self._rows.path(instance_id)) if is_id(instance_id) else ""

    def doctor(self) -> list[tuple[str, bool, str]]:
        return self._examine(USUAL)

    def doctor_for(self, pools: Sequence[PoolRequest]) -> list[tuple[str, bool, str]]:
        """With sizes and quotas for the cheapest size of each of these pools' markets, and the images that they name."""
        cheapest: dict[tuple[str, str], Offer] = {}
        images: dict[str, Callable[[], object]] = {}
        for pool in pools:
            for offer in self._offers.shipped(pool):
                cheapest.setdefault((pool.name, offer.market), offer)
            if (wanted := str(pool.spec.get("image") or "")) and (seen := self._seen(pool)):
                images[wanted] = lambda wanted=wanted, seen=seen: self._images.find(wanted, *seen)
        return self._examine([(offer.instance_type, offer.market) for offer in cheapest.values()], images)

    def _seen(self, pool: PoolRequest) -> tuple[str, bool] | None:
        """(architecture, whether it has NVIDIA's GPUs) of the cheapest size that the pool may get."""
        machines = {machine.name: machine for machine in instance_types("azure")}
        found = next((machines[offer.instance_type] for offer in self._offers.shipped(pool)), None)
        return (found.arch, found.gpu_vendor == "nvidia") if found else None

    def _examine(
        self, wanted: Sequence[tuple[str, str]], images: Mapping[str, Callable[[], object]] | None = None
    ) -> list[tuple[str, bool, str]]:
        def quotas() -> list[tuple[str, bool, str]]:
            return limit_rows(self._quotas, wanted, self._calls, self._skus)

        looks = images or {}
        return examine(
            self._calls, self._settings, self._skus, wanted, quotas, lambda: image_rows(looks),
            identities=self.identity.makes_some,
        )  # fmt: skip

    def find_clusters(self) -> list[tuple[str, str, int]]:
        """Clusters with VMs in this region, and those of which only a resource group, a disk or an identity is left."""
        found = {uid: (name, count) for name, uid, count in self._rows.clusters()}
        for name, uid in [*self._network.clusters(), *self.identity.clusters()]:
            found.setdefault(uid, (name, 0))
        return sorted((name, uid, count) for uid, (name, count) in found.items())

    def close(self) -> None:
        self._calls.close()
