"""A launch of many like nodes: what it asks of Azure, and what comes of it (`cloud.launch.LaunchCalls`).

Each node is a VM of its own, asked for by one PUT under its name: `If-None-Match` makes a repeated launch meet what the first
one made. They are sent together. Then the list of VMs is looked at for a moment, since what Azure has no room for is accepted
first, and fails after: it stays, with its card and its disk, and is removed before the refusal is told (docs/adr/0520).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clusterctl.core.errors import BadRequest, NotYet, ProviderError, Throttled, UnknownOutcome
from clusterctl.core.model import Instance, launch_token
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.head import head_card
from clusterctl_providers.azure.images.lookup import Images
from clusterctl_providers.azure.machines.body import MOST_USER_DATA, Wish, shared_body
from clusterctl_providers.azure.machines.instances import VmRows, is_lost
from clusterctl_providers.azure.machines.placement import Place, Placement
from clusterctl_providers.azure.machines.placement import is_gone as is_place_gone
from clusterctl_providers.azure.machines.puts import Puts
from clusterctl_providers.azure.machines.series import Size, size_of
from clusterctl_providers.azure.machines.settle import Settled, Settling
from clusterctl_providers.azure.market import quotas as limits
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.names import vm_name
from clusterctl_providers.azure.network.card import Card
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.azure.rights.identity import Identity
from clusterctl_providers.base import TAG_TOKEN, CreateRequest, CreateResult, HeadMachine, PoolRequest
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.batches import Batch, Member, batch_of, names_of, shared_bootstrap
from clusterctl_providers.cloud.boot import user_data
from clusterctl_providers.cloud.keys import public_key
from clusterctl_providers.cloud.launch import is_gang
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import RESERVED, Reservations
from clusterctl_providers.cloud.tags import launch_tags
from clusterctl_providers.this_machine import maker

log = logging.getLogger(__name__)

MOST_NODES = 50  # in one launch: a page of the list on which they are looked for
USER = "ubuntu"  # where `auth.user` does not say


class VmLaunches:
    cloud = "Azure"
    each_alone = True

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        auth: Mapping[str, Any],
        cluster: str,
        uid: str,
        network: Network,
        identity: Identity,
        images: Images,
        skus: Skus,
        quotas: Quotas,
        rows: VmRows,
        listing: Listing,
        reservations: Reservations,
        placement: Placement,
        head_machine: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._pause = clock, pause
        self._calls, self._settings, self._auth = calls, settings, auth
        self._cluster, self._uid = cluster, uid
        self._network, self._identity, self._images, self._skus = network, identity, images, skus
        self._quotas, self._rows, self._listing, self._reservations = quotas, rows, listing, reservations
        self._placement, self._head_machine = placement, head_machine
        self._types: dict[str, InstanceType] = {}
        self._locked_key = ""

    # ------------------------------------------------------------ calls

    def fits(self, members: Sequence[Member]) -> bool:
        return len(members) <= MOST_NODES

    def concerns_all(self, error: ProviderError) -> bool:
        """Each VM is refused, or not, for itself."""
        return False

    def title(self, batch: Batch, call: Mapping[str, Any]) -> str:
        zone = f" in zone {call['zone']}" if call["zone"] else ""
        return f"launching {names_of(batch)} ({call['type']}, {call['market']}){zone} of {self._calls.region}"

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> dict[str, CreateResult]:
        """Of a gang that is not whole nothing is left. Who was refused is gone from Azure when this returns."""
        what, names = self.title(batch, call), self._names(batch)
        puts = Puts(self._calls, self._rows.path, lambda: self._clock(), lambda s: self._pause(s))
        answers = puts.send(call, list(names.values()), what)
        settling = Settling(self._calls, self._rows, self._uid, lambda: self._clock(), lambda s: self._pause(s))
        settled = settling.await_all(answers, what)
        if settled.refused and call["gang"]:
            raise self._rolled_back(settling, settled, call, what, pool)
        found: dict[str, CreateResult] = {}
        left = settling.remove(settled.failed, what)
        for token, name in names.items():
            if name in settled.refused:
                error = left.get(name) or settled.refused[name]
                found[token] = self._looked_anew(error, call, pool)
            else:
                found[token] = self._launched(name, settled.rows.get(name), call)
        return found

    def made(self, batch: Batch) -> dict[str, Instance]:
        """Those that failed are none: they are met by the next try, which removes them."""
        names = {name: token for token, name in self._names(batch).items()}
        rows = self._rows.named(names)
        shown = self._rows.instances([row for row in rows.values() if not is_lost(row)])
        return {names[i.id]: self._listing.remember(i) for i in shown if i.uid == self._uid}

    def _names(self, batch: Batch) -> dict[str, str]:
        """By node token."""
        members = zip(batch.node_tokens, batch.members, strict=True)
        return {token: vm_name(self._cluster, self._uid, member) for token, member in members}

    def _launched(self, name: str, row: Mapping[str, Any] | None, call: Mapping[str, Any]) -> Instance:
        """Accepted, and not seen to fail: what becomes of it, the next looks tell."""
        if row is not None:
            return self._listing.remember(self._rows.instance(row))
        node_id, generation = call["vms"][name]["member"]
        pending = Instance(
            id=name,
            uid=self._uid,
            node_id=node_id,
            generation=generation,
            state="pending",
            zone=call["zone"],
            instance_type=call["type"],
            market=call["market"],
            token=launch_token(self._uid, node_id, generation),
        )
        return self._listing.remember(pending)

    def _rolled_back(
        self, settling: Settling, settled: Settled, call: Mapping[str, Any], what: str, pool: PoolRequest | None
    ) -> ProviderError:
        """The refusal of a gang, of which nothing is left. What is only not known yet takes nothing back."""
        refusals = list(settled.refused.values())
        for error in refusals:
            if isinstance(error, UnknownOutcome | Throttled | NotYet):
                some = len(settled.rows) > len(settled.failed) or any(isinstance(e, UnknownOutcome) for e in refusals)
                return UnknownOutcome(f"{what}: not all of the gang is there yet: {error}") if some else error
        left = settling.remove([*settled.rows, *settled.accepted], what)
        if left:
            return next(iter(left.values()))
        self._placement.release(Place(**call["place"]))
        return self._looked_anew(refusals[0], call, pool)

    def _looked_anew(self, error: ProviderError, call: Mapping[str, Any], pool: PoolRequest | None) -> ProviderError:
        """What was deleted behind our back is looked for, and made again, before the next try: no fault of the spec."""
        told = is_missing(error) or "not found" in str(error).lower()
        if not isinstance(error, BadRequest) or not told:
            return error
        if is_place_gone(error):
            self._placement.forget()
            return NotYet(f"looking anew for what Azure does not know any more: {error}", retry_after=1.0)
        wanted = str(pool.spec.get("image") or "") if pool else ""
        if self._images.forget(error, wanted) or self._network.forget(error):
            return NotYet(f"looking anew for what Azure does not know any more: {error}", retry_after=1.0)
        return error

    # ------------------------------------------------------------ what a launch says

    def beyond(self, requests: Sequence[CreateRequest]) -> dict[str, ProviderError]:
        """What is not free of the reservation, or beyond the quotas; what is reserved is within them."""
        offer = requests[0].offer
        if offer.market == RESERVED:
            return self._reservations.beyond(requests)
        count = len(requests) if is_gang(requests) else 1
        limits.check(self._quotas, self._type(offer.instance_type), offer.market, count, self._calls, self._skus)
        return {}

    def _type(self, name: str) -> InstanceType:
        if not self._types:
            self._types = {machine.name: machine for machine in instance_types("azure")}
        if name not in self._types:
            raise BadRequest(f"Azure has no size {name!r} that the catalogue knows: name another one in `instances`")
        return self._types[name]

    def call_for(self, batch: Batch, requests: Sequence[CreateRequest]) -> dict[str, Any]:
        offer, gang = requests[0].offer, is_gang(requests)
        wish, place = self._wish(requests, gang)
        vms = {
            vm_name(self._cluster, self._uid, (r.node_id, r.generation)): {
                "member": [r.node_id, r.generation],
                "tags": self._tags(r),
                "user_data": self._papers(r),
            }
            for r in requests
        }
        return {
            "zone": offer.zone,
            "type": offer.instance_type,
            "market": offer.market,
            "gang": gang,
            "place": {"proximity": place.proximity, "availability_set": place.availability_set},
            "awaits_identity": bool(wish.identity) and self._identity.is_ours(wish.identity),
            "body": shared_body(wish),
            "vms": vms,
        }

    def _wish(self, requests: Sequence[CreateRequest], gang: bool) -> tuple[Wish, Place]:
        request, offer = requests[0], requests[0].offer
        spec, machine, head = request.pool.spec, self._type(offer.instance_type), request.pool.role == "head"
        size = self._size(machine.name)
        wanted = str(spec.get("image") or "")
        image = self._images.find(wanted, machine.arch, machine.gpu_vendor == "nvidia")
        reservation = self._reservations.of(request).group if offer.market == RESERVED else ""
        card = self._card(request, head)  # and with it the resource group
        place = Place("")
        if gang:
            place = self._placement.place(request.pool.name, offer.zone, size, offer.market)
        wish = Wish(
            machine=machine,
            size=size,
            image=image,
            region=self._calls.region,
            zone=offer.zone,
            market=offer.market,
            card=card,
            user=str(self._auth.get("user") or "") or USER,
            key=self._key(head),
            disk=int(spec.get("disk") or 0),
            disk_type=str(self._settings.get("disk_type") or ""),
            disk_encryption_set=self._network.group.setting(
                "disk_encryption_set", "Microsoft.Compute", "diskEncryptionSets"
            ),
            encryption_at_host=bool(self._settings.get("encryption_at_host")),
            trusted_launch=bool(self._settings.get("trusted_launch", True)),
            own_image=bool(wanted),
            max_price=float(self._settings.get("max_price") or -1.0),
            identity=self._identity.attached(head=head),
            proximity=place.proximity,
            availability_set=place.availability_set,
            reservation_group=reservation,
        )
        return wish, place

    def _size(self, name: str) -> Size:
        """By its name alone where Azure does not tell of it."""
        try:
            return size_of(name, self._skus.capabilities(name))
        except ProviderError as error:
            log.info("%s; what %s can do is taken from its name", error, name)
            return size_of(name, {})

    def _card(self, request: CreateRequest, head: bool) -> Card | str:
        if head and self._head_machine is not None:
            name = vm_name(self._cluster, self._uid, (request.node_id, request.generation))
            return head_card(self._calls, self._network, self._head_machine, request.place, name)
        return self._network.card()

    def _key(self, head: bool) -> str:
        """Azure wants one for each machine with Linux. Nobody logs in to a worker: its key's other half is nowhere."""
        path = str(self._auth.get("key") or "")
        if head and path:
            return " ".join(public_key(Path(path).expanduser(), "Azure").decode().split()[:2])
        if not self._locked_key:
            public = Ed25519PrivateKey.generate().public_key()
            written = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            self._locked_key = written.decode()
        return self._locked_key

    def _papers(self, request: CreateRequest) -> str:
        """A machine's own, and nobody else's."""
        boot = {**shared_bootstrap(request), "metadata": "azure", "shutdown": "poweroff"}
        node = (request.node_id, request.generation, str(request.bootstrap.get("join_token", "")))
        return user_data(boot, [node], MOST_USER_DATA)

    def _tags(self, request: CreateRequest) -> dict[str, str]:
        head_here = request.pool.role == "head" and self._head_machine is not None
        who = maker() if self._settings.get("head_address") else ""
        users = {str(key): str(value) for key, value in dict(self._settings.get("tags") or {}).items()}
        tags = launch_tags(users, batch_of([request]), request, head_here=head_here, maker=who)
        tags.pop(TAG_TOKEN, None)  # it follows from uid, node and generation
        return tags
