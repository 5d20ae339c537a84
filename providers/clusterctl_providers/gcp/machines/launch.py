"""bulkInsert: what a launch of many like nodes asks of Compute Engine, and what comes of it (`cloud.launch.LaunchCalls`).

Google answers with an operation, which is watched until it is done or its machines are listed. The names of its instances
make a repeated launch the same one; the requestId, which is in the book with the call, makes Google answer with the same
operation (docs/adr/0514).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import BadRequest, NotYet, ProviderError, QuotaExceeded, Throttled, UnknownOutcome
from clusterctl.core.model import Instance, launch_token
from clusterctl_providers.base import CreateRequest, CreateResult, HeadMachine, PoolRequest
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.batches import Batch, Member, names_of, shared_bootstrap
from clusterctl_providers.cloud.boot import TooLarge, user_data
from clusterctl_providers.cloud.launch import AlreadyBegun, is_gang
from clusterctl_providers.cloud.listing import SETTLES, Listing
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import RESERVED, Reservations
from clusterctl_providers.cloud.tags import launch_tags
from clusterctl_providers.gcp.calls import LONGEST_WAIT, Calls, last_part
from clusterctl_providers.gcp.errors import OperationError, is_missing, is_taken, typed
from clusterctl_providers.gcp.head import head_interface, login_metadata
from clusterctl_providers.gcp.images.lookup import Images
from clusterctl_providers.gcp.machines.body import Wish, instance_of, properties
from clusterctl_providers.gcp.machines.instances import InstanceRows
from clusterctl_providers.gcp.machines.series import is_placed
from clusterctl_providers.gcp.market import quotas as limits
from clusterctl_providers.gcp.market.reservations import DENSE, FLEX_START, affinity_name
from clusterctl_providers.gcp.names import TAG_LAUNCH, id_of, instance_name, labels_and_metadata, tells
from clusterctl_providers.gcp.network.network import Network
from clusterctl_providers.gcp.rights.identity import Identity, is_unseen
from clusterctl_providers.gcp.rights.oslogin import OsLogin
from clusterctl_providers.this_machine import maker

log = logging.getLogger(__name__)

MOST_NODES = 200  # in one call; Google takes more, but the join tokens of all are in the metadata of each
MOST_USER_DATA = 200 * 1024  # bytes; a value of metadata may have 256 KiB
REFUSALS = 1.5  # seconds after which a launch that was not refused is believed to come
RUN_SECONDS = 7 * 86_400  # of a flex-start machine, where the settings do not say: the longest there is
WAIT_SECONDS = 7_200  # that Google may look for one: the longest there is
USER = "ubuntu"  # of the head's machine, where `auth.user` does not say


class GceLaunches:
    cloud = "Google Cloud"
    each_alone = False

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
        quotas: Quotas,
        rows: InstanceRows,
        listing: Listing,
        reservations: Reservations,
        os_login: OsLogin,
        head_machine: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._pause = clock, pause
        self._calls, self._settings, self._auth = calls, settings, auth
        self._cluster, self._uid = cluster, uid
        self._network, self._identity, self._images, self._quotas = network, identity, images, quotas
        self._rows, self._listing, self._reservations = rows, listing, reservations
        self._os_login, self._head_machine = os_login, head_machine
        self._types: dict[str, InstanceType] = {}

    # ------------------------------------------------------------ calls

    def fits(self, members: Sequence[Member]) -> bool:
        """Only a single instance can say in its labels what does not go into its name."""
        return len(members) <= MOST_NODES and all(tells(self._cluster, self._uid, member) for member in members)

    def concerns_all(self, error: ProviderError) -> bool:
        """Quotas are all or nothing in a call."""
        return isinstance(error, QuotaExceeded)

    def title(self, batch: Batch, call: Mapping[str, Any]) -> str:
        return f"launching {names_of(batch)} ({call['type']}, {call['market']}) in {call['zone']}"

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> dict[str, CreateResult]:
        what = self.title(batch, call)
        try:
            operation = self._carried_out(what, call)
        except ProviderError as error:
            if is_taken(error):
                raise AlreadyBegun(str(error)) from error.__cause__
            failed = error.__cause__.operation if isinstance(error.__cause__, OperationError) else {}
            if not _created(failed):
                raise self._refusal(error, what, call, pool) from error.__cause__
            operation = failed
        return self._results(batch, call, operation, what)

    def made(self, batch: Batch) -> dict[str, Instance]:
        names = {instance_name(self._cluster, self._uid, m): t for m, t in self._who(batch)}
        return {names[name]: self._listing.remember(i) for name, i in self._rows.named(names).items()}

    def _who(self, batch: Batch) -> list[tuple[Member, str]]:
        return list(zip(batch.members, batch.node_tokens, strict=True))

    def _carried_out(self, what: str, call: Mapping[str, Any]) -> dict[str, Any]:
        """The operation when it is done. What was just made, here or in IAM, Google knows some seconds later than its maker
        says so: it is waited for, with another number each time, since a call that failed is not made again under its own."""
        backoff = Backoff(0.5, 5.0, factor=1.5, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        for attempt in range(1000):
            number = str(uuid.uuid5(uuid.UUID(call["request"]), str(attempt)))
            try:
                accepted = self._calls.change("POST", call["path"], what, call["body"], requestId=number)
                # a machine of flex-start may be looked for for hours: its end, if it does not come, is told by its operation
                return accepted if call["market"] == FLEX_START else self._begun(accepted, what, call)
            except BadRequest as error:
                if not (call["awaits_account"] and is_unseen(error)) or not backoff.wait():
                    raise
                log.info("%s; it is waited for", error)
        raise AssertionError("a thousand attempts within a minute")

    def _begun(self, accepted: Mapping[str, Any], what: str, call: Mapping[str, Any]) -> dict[str, Any]:
        """The operation when it is done, or as soon as all its machines are listed: the rest of its time is theirs to boot in,
        and the next launch need not wait for it. What ends them from then on, the next looks tell (`ends`). Refusals mostly
        come at once, and are waited for a moment."""
        began, pauses = self._clock(), Backoff(0.1, 1.0, seconds=LONGEST_WAIT, clock=self._clock, sleep=self._pause)
        operation = self._calls.look(accepted, what)
        while operation.get("status") != "DONE":
            if self._clock() - began >= REFUSALS and self._rows.of_launch(call["zone"], call["launch"]).keys() >= set(
                call["names"]
            ):
                return operation
            if not pauses.wait():
                raise UnknownOutcome(
                    f"{what}: the operation {operation['name']} is not done after {LONGEST_WAIT / 60:g} minutes"
                )
            operation = self._calls.look(operation, what)
        return operation

    def _results(
        self, batch: Batch, call: Mapping[str, Any], operation: Mapping[str, Any], what: str
    ) -> dict[str, CreateResult]:
        """What came of a call that made some: who is missing was not to be had, or has ended since."""
        shown = self._rows.of_launch(call["zone"], call["launch"])
        is_done = operation.get("status") == "DONE"
        expected = _created(operation) if is_done else len(call["names"])
        causes = self._causes(call, operation, what) if expected < len(call["names"]) else {}
        found: dict[str, CreateResult] = {}
        for (member, token), name in zip(self._who(batch), call["names"], strict=True):
            if name in shown:
                found[token] = self._listing.remember(shown[name])
            elif name in causes:
                found[token] = causes[name]
            elif expected > len(shown):
                found[token] = self._looked_up(call, member, name)
            elif causes:
                found[token] = next(iter(causes.values()))
        return found

    def _looked_up(self, call: Mapping[str, Any], member: Member, name: str) -> Instance:
        """Google says that it made it, and its list does not show it."""
        instance_id = id_of(call["zone"], name)
        if row := self._rows.find(instance_id):
            return self._listing.remember(self._rows.instance(row))
        waits = call["market"] == FLEX_START
        return Instance(
            id=instance_id,
            uid=self._uid,
            node_id=member[0],
            generation=member[1],
            state="pending" if waits else "terminated",
            zone=call["zone"],
            instance_type=call["type"],
            market=call["market"],
            token=launch_token(self._uid, *member),
            detail="" if waits else "it was launched, and has ended since",
        )

    def _causes(self, call: Mapping[str, Any], operation: Mapping[str, Any], what: str) -> dict[str, ProviderError]:
        """By name, why instances of a call were not made: each had an operation of its own."""
        group = str(operation.get("operationGroupId") or "")
        if not group:
            return {}
        path, asking = f"zones/{call['zone']}/operations", f"asking why some were not made: {what}"
        found: dict[str, ProviderError] = {}
        try:
            for page in self._calls.pages(path, asking, filter=f'operationGroupId = "{group}"'):
                for row in page.get("items") or ():
                    if row.get("error") and row.get("operationType") != "bulkInsert":
                        found[last_part(str(row.get("targetLink") or ""))] = typed(
                            OperationError(row), what, self._calls.project
                        )
        except ProviderError as error:
            log.info("%s", error)
        return found

    def _refusal(
        self, error: ProviderError, what: str, call: Mapping[str, Any], pool: PoolRequest | None
    ) -> ProviderError:
        """What was deleted behind our back is looked for, and made again, before the next try: no fault of the spec. An
        operation that has failed will not come true, whatever its reason was."""
        if not isinstance(error.__cause__, OperationError):
            return self._looked_anew(error, call, pool)
        if error.__cause__.says_little:
            causes = self._causes(call, error.__cause__.operation, what)
            error = next(iter(causes.values()), error)
        if isinstance(error, UnknownOutcome | Throttled):
            return NotYet(str(error), retry_after=getattr(error, "retry_after", 2.0))
        return self._looked_anew(error, call, pool)

    def _looked_anew(self, error: ProviderError, call: Mapping[str, Any], pool: PoolRequest | None) -> ProviderError:
        told = is_missing(error) or "not found" in str(error) or "cannot be found" in str(error)
        if not isinstance(error, BadRequest) or not told:
            return error
        wanted = str(pool.spec.get("image") or "") if pool else ""
        image = call["image"] in str(error) and self._images.forget(call["image"], wanted)
        if image or self._network.forget(error):
            return NotYet(f"looking anew for what Google Cloud does not know any more: {error}", retry_after=1.0)
        return error

    # ------------------------------------------------------------ what a call says

    def beyond(self, requests: Sequence[CreateRequest]) -> dict[str, ProviderError]:
        """What is not free of the reservation, or beyond the quotas; what is reserved is within them."""
        offer = requests[0].offer
        if offer.market == RESERVED:
            return self._reservations.beyond(requests)
        count = len(requests) if is_gang(requests) else 1
        limits.check(self._quotas, self._type(offer.instance_type), offer.market, count, self._calls)
        return {}

    def _type(self, name: str) -> InstanceType:
        if not self._types:
            self._types = {machine.name: machine for machine in instance_types("gcp")}
        if name not in self._types:
            raise BadRequest(
                f"Google Cloud has no instance type {name!r} that the catalogue knows: name another one in `instances`"
            )
        return self._types[name]

    def call_for(self, batch: Batch, requests: Sequence[CreateRequest]) -> dict[str, Any]:
        """A single one by instances.insert, which bulkInsert would be as well, but for what only the one can: it waits for
        capacity, and its labels are its own."""
        offer = requests[0].offer
        gang, alone = is_gang(requests), len(requests) == 1
        if offer.market == FLEX_START and not alone:
            self._refuse_many(requests, gang)
        wish, names = self._wish(batch, requests), [instance_name(self._cluster, self._uid, m) for m in batch.members]
        found, zone = properties(wish), offer.zone
        if alone:
            region = f"projects/{self._calls.project}/regions/{self._calls.region}"
            body = instance_of(found, names[0], zone, region)
            if offer.market == FLEX_START:
                body["params"] = {"requestValidForDuration": {"seconds": str(WAIT_SECONDS)}}
        else:
            body = {
                "count": str(len(names)),
                "minCount": str(len(names) if gang else 1),
                "perInstanceProperties": {name: {} for name in names},
                "instanceProperties": found,
            }
        return {
            "path": f"zones/{zone}/instances{'' if alone else '/bulkInsert'}",
            "zone": zone,
            "type": offer.instance_type,
            "market": offer.market,
            "names": names,
            "launch": wish.labels[TAG_LAUNCH],
            "request": str(uuid.uuid4()),
            "image": wish.image.id,
            "awaits_account": any(self._identity.is_ours(str(account["email"])) for account in wish.accounts),
            "body": body,
        }

    def _refuse_many(self, requests: Sequence[CreateRequest], gang: bool) -> None:
        if gang:
            raise BadRequest(
                f"pool {requests[0].pool.name} is a gang (`one_zone`), and Google starts machines of the market {FLEX_START} "
                "one by one: name another market, or a reservation"
            )
        raise TooLarge(f"machines of {FLEX_START} are asked for one by one")

    def _wish(self, batch: Batch, requests: Sequence[CreateRequest]) -> Wish:
        request, offer = requests[0], requests[0].offer
        spec, machine, head = request.pool.spec, self._type(offer.instance_type), request.pool.role == "head"
        wanted = str(spec.get("image") or "")
        image = self._images.find(wanted, machine.arch, machine.gpu_vendor == "nvidia")
        labels, metadata = self._labels(batch, request)
        if self._os_login.wanted:
            metadata["enable-oslogin"] = "TRUE"
        here = self._head_machine if head else None
        if here is not None:
            interface = head_interface(self._calls, self._network, here, request.place)
            metadata |= login_metadata(self._auth, self._os_login.user() or USER, os_login=self._os_login.wanted)
        else:
            interface = self._network.interface(public=bool(self._settings.get("public_addresses", True)))
        reservation, group = "", ""
        if offer.market == RESERVED:
            found = self._reservations.of(request)
            reservation, group = affinity_name(found), found.group
        close = is_gang(requests) and group != DENSE and is_placed(machine.name)
        policy = self._network.placement_policy(request.pool.name, offer.zone) if close else ""
        return Wish(
            machine=machine,
            image=image,
            market=offer.market,
            interface=interface,
            disk=int(spec.get("disk") or 0),
            disk_type=str(self._settings.get("disk_type") or ""),
            kms_key=str(self._settings.get("kms_key") or ""),
            labels=labels,
            metadata={**metadata, "startup-script": self._startup_script(batch, requests)},
            network_tags=self._network.tags(head=here is not None),
            accounts=self._identity.attached(head=head),
            policy=last_part(policy),
            reservation=reservation,
            bound=bool(group),
            own_image=bool(wanted),
            restarts=here is not None,
            run_seconds=int(self._settings.get("flex_start_for") or RUN_SECONDS),
        )

    def _startup_script(self, batch: Batch, requests: Sequence[CreateRequest]) -> str:
        """Runs at every boot; the machine finds its entry by its own name."""
        names = [instance_name(self._cluster, self._uid, member) for member in batch.members]
        boot = {**shared_bootstrap(requests[0]), "metadata": "gcp", "shutdown": "poweroff", "names": names}
        nodes = [(r.node_id, r.generation, str(r.bootstrap.get("join_token", ""))) for r in requests]
        return user_data(boot, nodes, MOST_USER_DATA)

    def _labels(self, batch: Batch, request: CreateRequest) -> tuple[dict[str, str], dict[str, str]]:
        head_here = request.pool.role == "head" and self._head_machine is not None
        who = maker() if self._settings.get("head_address") else ""
        users = {str(key): str(value) for key, value in dict(self._settings.get("tags") or {}).items()}
        tags = launch_tags(users, batch, request, head_here=head_here, maker=who)
        labels, metadata = labels_and_metadata(tags)
        return {**labels, TAG_LAUNCH: batch.token[:63]}, metadata


def _created(operation: Mapping[str, Any]) -> int:
    """How many instances an operation that is done has made."""
    if operation.get("operationType") != "bulkInsert":
        return 0 if operation.get("error") or not operation else 1
    places = (operation.get("instancesBulkInsertOperationMetadata") or {}).get("perLocationStatus") or {}
    return sum(int(place.get("createdVmCount") or 0) for place in places.values())
