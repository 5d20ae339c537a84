"""The AWS provider: nodes are EC2 instances in one region, launched in batches and known again by their tags.

Settings (under `provider: {aws: ...}`) are those of `clusterctl.spec.providers.AwsSettings`. What any cloud needs is in
`clusterctl_providers.cloud`; the modules beside this one give it EC2's calls, errors and nouns: calls, errors, region (how
AWS is spoken to), launch, instances, power, offers, quotas, reservations, images, image_build and image_store (what the
neutral modules ask for), network, identity and efa (what is around an instance), head, doctor, simulation and policies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl.core.model import Instance, Observed, Offer
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.doctor import examine
from clusterctl_providers.aws.head import HeadParts
from clusterctl_providers.aws.identity import Identity
from clusterctl_providers.aws.image_build import BUILDERS, Ec2Build
from clusterctl_providers.aws.image_store import Ec2Images
from clusterctl_providers.aws.images import Images
from clusterctl_providers.aws.instances import InstanceRows
from clusterctl_providers.aws.launch import DISK, GPU_DISK, Ec2Launches
from clusterctl_providers.aws.network import Network
from clusterctl_providers.aws.offers import Ec2Market
from clusterctl_providers.aws.power import INSTANCE_ID, Ec2Power
from clusterctl_providers.aws.quotas import ask
from clusterctl_providers.aws.reservations import look_up
from clusterctl_providers.base import (
    AddressHolder,
    CreateRequest,
    CreateResult,
    HeadDisk,
    ImageRecipe,
    MadeImage,
    NetworkPlace,
    PoolRequest,
    ProviderContext,
    StoredImage,
    Whereabouts,
)
from clusterctl_providers.catalog import instance_types
from clusterctl_providers.cloud.book import BatchBook
from clusterctl_providers.cloud.image_build import ImageBuild
from clusterctl_providers.cloud.image_store import ImageStore
from clusterctl_providers.cloud.launch import Launcher
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.offers import Offers
from clusterctl_providers.cloud.power import Power
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import Reservations


class AwsProvider:
    name = "aws"
    settle_seconds = 2.0  # so long DescribeInstances may lag behind
    in_flight_seconds = 10.0  # so long RunInstances may take for a caller that is gone

    def __init__(self, context: ProviderContext) -> None:
        settings = self._settings = context.settings
        self._calls = Calls(settings)
        self.scopes: Sequence[str] = (self._calls.region,)
        head = context.head_machine
        ssh_from = settings.get("ssh_from") if head is None else head.ssh_from
        self._network = Network(self._calls, settings, context.auth, context.cluster, context.uid, ssh_from, head)
        self.identity = Identity(self._calls, settings, context.cluster, context.uid, head.images if head else ())
        self._head = HeadParts(self._calls, self._network, context.uid)
        self._uid = context.uid
        self._images = Images(self._calls)
        self._quotas = Quotas(partial(ask, self._calls))
        self._rows = InstanceRows(self._calls, context.uid)
        self._listing = Listing(self._rows)
        self._power = Power(Ec2Power(self._calls, self._listing), self._listing)
        reservations = Reservations(partial(look_up, self._calls))
        self._offers = Offers(Ec2Market(self._calls, self._network), reservations)
        launches = Ec2Launches(
            self._calls,
            settings,
            self._network,
            self.identity,
            self._images,
            self._quotas,
            self._rows,
            self._listing,
            reservations,
            head,
        )
        self._launcher = Launcher(launches, BatchBook(Path(context.state_dir) / "aws-launches"))

    @property
    def offers_last(self) -> float:
        """Seconds; 0 where what is free of a reservation changes from one moment to the next."""
        return self._offers.last

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        return self._launcher.launch(requests)

    def list(self) -> list[Observed]:
        return [self._listing.observe(self.scopes[0])]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        return self._listing.look_up([i for i in instance_ids if INSTANCE_ID.fullmatch(i)])

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._power.terminate(instance_ids)

    def stop(self, instance_ids: Sequence[str]) -> None:
        self._power.stop(instance_ids)

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        return self._power.start(instance_ids)

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return self._offers.of(pool)

    def catalogue_offers(self, pool: PoolRequest) -> list[Offer]:
        return self._offers.shipped(pool)

    def build_image(self, pool: PoolRequest, recipe: ImageRecipe, tell: Callable[[str], None]) -> MadeImage:
        """For the architecture of the pool's cheapest type, x86-64 where it names none."""
        offers = self._offers.shipped(pool)
        machine = next((m for m in instance_types("aws") if offers and m.name == offers[0].instance_type), None)
        nvidia = machine is not None and machine.gpu_vendor == "nvidia"
        disk = int(pool.spec.get("disk") or (GPU_DISK if nvidia else DISK))
        arch = machine.arch if machine else "x86_64"
        base = self._images.find(str(pool.spec.get("image") or ""), arch, nvidia)
        build = ImageBuild(Ec2Build(self._calls, self._network, base, self._uid), self._uid, tell)
        return build.make(base.id, base.arch, BUILDERS[arch], recipe, disk)

    def images(self) -> list[StoredImage]:
        return ImageStore(Ec2Images(self._calls)).list()

    def remove_image(self, image: StoredImage) -> None:
        ImageStore(Ec2Images(self._calls)).remove(image)

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
        self._network.security_groups()
        self.identity.renew()

    def sweep(self) -> list[str]:
        return [*self._network.sweep(), *self.identity.sweep()]

    def console_log(self, instance_id: str) -> str:
        if not INSTANCE_ID.fullmatch(instance_id):
            return ""
        try:
            what = f"reading the console of {instance_id}"
            answer = self._calls.call("ec2", "get_console_output", what, InstanceId=instance_id)
        except BadRequest:
            return ""
        return str(answer.get("Output") or "")[-20_000:]

    def doctor(self) -> list[tuple[str, bool, str]]:
        return examine(self._calls, self._quotas, self._uid, self._settings, roles=self.identity.makes_some)

    def doctor_for(self, pools: Sequence[PoolRequest]) -> list[tuple[str, bool, str]]:
        """With the quotas for the cheapest type of each of these pools' markets."""
        vcpus = {machine.name: machine.vcpus for machine in instance_types("aws")}
        cheapest: dict[tuple[str, str], Offer] = {}
        for pool in pools:
            for offer in self._offers.shipped(pool):
                cheapest.setdefault((pool.name, offer.market), offer)
        wanted = [(o.instance_type, o.market, vcpus[o.instance_type]) for o in cheapest.values()]
        return examine(self._calls, self._quotas, self._uid, self._settings, wanted, roles=self.identity.makes_some)

    def find_clusters(self) -> list[tuple[str, str, int]]:
        """Clusters with instances in this region, and those of which only a security group, a key or a role is left."""
        found = {uid: (name, count) for name, uid, count in self._rows.clusters()}
        for name, uid in [*self._network.clusters(), *self.identity.clusters()]:
            found.setdefault(uid, (name, 0))
        return sorted((name, uid, count) for uid, (name, count) in found.items())

    def close(self) -> None:
        self._calls.close()
