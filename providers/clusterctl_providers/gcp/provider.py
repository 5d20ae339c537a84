"""The Google Cloud provider: nodes are Compute Engine instances in one region, launched in batches and known by name and labels.

Settings (under `provider: {gcp: ...}`) are those of `clusterctl.spec.providers.GcpSettings`. What any cloud needs is in
`clusterctl_providers.cloud`; what lies beside this module gives it Google's calls, errors and nouns:

    calls, errors, login, names   how Google is spoken to, and how things are called there
    machines                      what an instance is, launched, listed, ended and started
    images                        looked up, built and kept
    market                        what is sold at what price, quotas, reservations
    network                       firewall rules, addresses, and whose they are
    rights, roles, iam            accounts, policies and roles
    head, iap                     the head's machine and the way to it
    doctor, review                what is missing, told before anything is made
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed, Offer
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
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.doctor import USUAL, examine
from clusterctl_providers.gcp.head import HeadParts, console_log
from clusterctl_providers.gcp.images.build import BUILDERS, GceBuild
from clusterctl_providers.gcp.images.lookup import Images
from clusterctl_providers.gcp.images.store import GceImages
from clusterctl_providers.gcp.machines.body import DISK, GPU_DISK
from clusterctl_providers.gcp.machines.instances import InstanceRows
from clusterctl_providers.gcp.machines.launch import GceLaunches
from clusterctl_providers.gcp.machines.power import GcePower
from clusterctl_providers.gcp.market.market import GceMarket
from clusterctl_providers.gcp.market.prices import PriceList
from clusterctl_providers.gcp.market.quotas import Limits, limit_rows
from clusterctl_providers.gcp.market.reservations import Lookup
from clusterctl_providers.gcp.names import is_id
from clusterctl_providers.gcp.network.network import Network
from clusterctl_providers.gcp.review import Review
from clusterctl_providers.gcp.rights.identity import Identity
from clusterctl_providers.gcp.rights.oslogin import OsLogin


class GcpProvider:
    name = "gcp"
    settle_seconds = 2.0  # so long a list may lag behind
    in_flight_seconds = 10.0  # so long an insert may take to show for a caller that is gone

    def __init__(self, context: ProviderContext) -> None:
        settings = self._settings = context.settings
        self._calls = Calls(settings)
        self.scopes: Sequence[str] = (self._calls.region,)
        head = context.head_machine
        ssh_from = settings.get("ssh_from") if head is None else head.ssh_from
        self._network = Network(self._calls, settings, context.cluster, context.uid, ssh_from, head)
        self.identity = Identity(self._calls, settings, context.cluster, context.uid)
        self._os_login = OsLogin(self._calls, settings, context.auth, context.uid)
        self._head = HeadParts(self._calls, settings, self._network, context.uid)
        self._uid = context.uid
        self._images = Images(self._calls)
        self._quotas = Quotas(Limits(self._calls))
        self._rows = InstanceRows(self._calls, context.cluster, context.uid, self._network.zones)
        self._listing = Listing(self._rows)
        self._power = Power(GcePower(self._calls, self._rows, self._listing), self._listing)
        reservations = Reservations(Lookup(self._calls, self._network.zones))
        prices = PriceList(self._calls, None if settings.get("endpoint_url") else user_directory())
        market = GceMarket(self._calls, prices, self._network.zones)
        self._offers = Offers(market, reservations)
        self._review = Review(self._calls, settings, self._network, market, self._images)
        launches = GceLaunches(
            self._calls,
            settings,
            context.auth,
            context.cluster,
            context.uid,
            self._network,
            self.identity,
            self._images,
            self._quotas,
            self._rows,
            self._listing,
            reservations,
            self._os_login,
            head,
        )
        self._launcher = Launcher(launches, BatchBook(Path(context.state_dir) / "gcp-launches"))

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
        machine = next((m for m in instance_types("gcp") if offers and m.name == offers[0].instance_type), None)
        nvidia = machine is not None and machine.gpu_vendor == "nvidia"
        arch = machine.arch if machine else "x86_64"
        base = self._images.find(str(pool.spec.get("image") or ""), arch, nvidia)
        disk = int(pool.spec.get("disk") or max(base.size, GPU_DISK if nvidia else DISK))
        public = bool(self._settings.get("public_addresses", True))
        calls = GceBuild(self._calls, self._network, base, self._uid, public=public)
        build = ImageBuild(calls, self._uid, tell)
        return build.make(base.id, base.arch, BUILDERS[arch], recipe, disk)

    def images(self) -> list[StoredImage]:
        return ImageStore(GceImages(self._calls)).list()

    def remove_image(self, image: StoredImage) -> None:
        ImageStore(GceImages(self._calls)).remove(image)

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
        return replace(self._head.whereabouts(instance_id), user=self._os_login.user())

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        return self._head.address_holder(place)

    def renew_access(self) -> None:
        self._network.renew_access()
        self.identity.renew()

    def sweep(self) -> list[str]:
        return [*self._network.sweep(), *self.identity.sweep(), *self._os_login.forget()]

    def console_log(self, instance_id: str) -> str:
        return console_log(self._calls, instance_id) if is_id(instance_id) else ""

    def doctor(self) -> list[tuple[str, bool, str]]:
        return self._examine(USUAL)

    def doctor_for(self, pools: Sequence[PoolRequest]) -> list[tuple[str, bool, str]]:
        """With the quotas for the cheapest type of each of these pools' markets."""
        cheapest: dict[tuple[str, str], Offer] = {}
        for pool in pools:
            for offer in self._offers.shipped(pool):
                cheapest.setdefault((pool.name, offer.market), offer)
        return self._examine([(offer.instance_type, offer.market) for offer in cheapest.values()])

    def _examine(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, bool, str]]:
        def quotas() -> list[tuple[str, bool, str]]:
            return limit_rows(self._quotas, wanted, self._calls)

        return examine(self._calls, self._settings, quotas, accounts=self.identity.makes_some)

    def find_clusters(self) -> list[tuple[str, str, int]]:
        """Clusters with instances in this region, and those of which only a disk, a firewall rule or an account is left."""
        found = {uid: (name, count) for name, uid, count in self._rows.clusters()}
        for name, uid in [*self._network.clusters(), *self.identity.clusters()]:
            found.setdefault(uid, (name, 0))
        return sorted((name, uid, count) for uid, (name, count) in found.items())

    def close(self) -> None:
        self._calls.close()
