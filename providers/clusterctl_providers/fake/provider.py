"""`provider: fake`: a deterministic cloud on disk, with scripted faults, to rehearse what goes wrong before it does.

Settings (under `provider: {fake: ...}`), all optional:

    cloud, region, zones   whose catalogue of types and prices to offer (default aws, us-east-1, two zones)
    types                  a catalogue of one's own: {NAME: {CPU: 4, GPU: 1, price: 0.8, spot_price: 0.3, gpu_type: L4}}
    boot                   none (default): instances are rows in a file; local: each boots a real agent on this machine
    boot_seconds           from the call to running (default 30, with `boot: local` 0)
    linger                 seconds for which an ended instance is still listed as terminated (default 0)
    speed                  the cloud's clock runs so many times as fast (default 1)
    directory              where the cloud lives (default: with the cluster), to share one between clusters
    faults                 see fake_faults

Equal calls at equal times give equal answers. Every call is on record (`calls`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterctl.core.errors import (
    AuthFailed,
    BadRequest,
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import Instance, Observed, Offer, labels_of
from clusterctl_providers import catalog
from clusterctl_providers.base import (
    OFFERS_LAST,
    TAG_CLUSTER,
    TAG_UID,
    CreateRequest,
    CreateResult,
    PoolRequest,
    ProviderContext,
)
from clusterctl_providers.fake.boots import Boots
from clusterctl_providers.fake.cloud import NEVER, FakeCloud, FakeInstance
from clusterctl_providers.fake.faults import Fault, parse_faults
from clusterctl_providers.fake.types import offers_of


class FakeProvider:
    name = "fake"
    in_flight_seconds = 0.0  # a launch is one transaction of its caller
    offers_last = OFFERS_LAST

    def __init__(self, context: ProviderContext) -> None:
        settings = context.settings
        self._context = context
        self._settings = settings
        self._clock = context.clock
        self._speed = float(settings.get("speed", 1.0))
        self._faults = parse_faults(settings.get("faults") or ())
        self._directory = Path(settings.get("directory") or context.state_dir)
        self._cloud_name = str(settings.get("cloud", "aws"))
        self._region = str(settings.get("region", "us-east-1"))
        self.scopes: Sequence[str] = tuple(settings.get("zones") or (f"{self._region}a", f"{self._region}b"))
        stale = [fault.seconds for fault in self._faults if fault.kind == "stale_list"]
        self.settle_seconds = max(stale, default=0.0) / self._speed
        self._cloud = FakeCloud(self._directory / "fake-cloud.db")
        boots = settings.get("boot", "none") == "local"
        self._boots = Boots(context, self._directory / "booted", self._cloud) if boots else None
        seconds = settings.get("boot_seconds")
        self._boot_seconds = float((0.0 if self._boots else 30.0) if seconds is None else seconds)

    # ------------------------------------------------------------ the contract

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        with self._cloud.change():
            now = self._now()
            self._cloud.note_call(now, "create", {"tokens": [r.token for r in requests]})
            results = [self._create(request, now) for request in requests]
        self._catch_up()
        return results

    def list(self) -> list[Observed]:
        self._catch_up()
        at = self._clock()
        with self._cloud.change():
            now = self._now()
            self._cloud.note_call(now, "list", {})
            trouble = self._trouble("list", now)
            if trouble:
                return [Observed(scope, (), False, at, str(trouble)) for scope in self.scopes]
            listed = [i for i in self._ours() if self._is_listed(i, now)]
            return [self._list_scope(scope, listed, now, at) for scope in self.scopes]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        self._catch_up()
        with self._cloud.change():
            now = self._now()
            self._cloud.note_call(now, "look_up", {"ids": sorted(instance_ids)})
            trouble = self._trouble("look_up", now)
            if trouble:
                raise trouble
            known = [one for one in self._cloud.instances() if one.id in set(instance_ids)]
            return {one.id: self._show(one, now, truth=True) for one in known}

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._change("terminate", instance_ids, lambda one, now: self._cloud.end(one, now, "terminate"))

    def stop(self, instance_ids: Sequence[str]) -> None:
        """Keeps them, and nothing of them runs. Spot instances cannot be stopped."""
        self._change("stop", instance_ids, self._stop)

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        answers: dict[str, ProviderError | None] = {}
        try:
            self._change("start", instance_ids, lambda one, now: answers.update({one.id: self._start(one, now)}))
        except ProviderError as error:
            return [error] * len(instance_ids)
        unknown = BadRequest("the fake cloud has no such instance: it has ended")
        return [answers.get(instance_id, unknown) for instance_id in instance_ids]

    def _change(self, call: str, ids: Sequence[str], change: Callable[[FakeInstance, float], Any]) -> None:
        """One call about instances that live, with the faults that may strike it."""
        with self._cloud.change():
            now = self._now()
            self._cloud.note_call(now, call, {"ids": sorted(ids)})
            trouble = self._trouble(call, now)
            lost = None if trouble else self._struck("lost_call", now, call=call)
            if not trouble and not lost:
                for instance in self._ours():
                    if instance.id in set(ids) and instance.lives(now):
                        change(instance, now)
            unheard = self._struck("lost_answer", now, call=call) if not trouble and not lost else None
        if trouble:
            raise trouble
        self._catch_up()
        if lost or unheard:
            raise UnknownOutcome(f"no answer came to {call} {', '.join(sorted(ids))}: list again")

    def _stop(self, instance: FakeInstance, now: float) -> None:
        if instance.market == "spot":
            raise BadRequest(f"{instance.id} is a spot instance, which cannot be stopped")
        if instance.stopped_at > now:
            self._cloud.put(replace(instance, stopped_at=now))

    def _start(self, instance: FakeInstance, now: float) -> ProviderError | None:
        if instance.stopped_at > now:
            return None
        if self._struck("no_capacity", now, offer=instance.offer_key):
            return NoCapacity(f"{instance.instance_type} is sold out in {instance.zone}: {instance.id} stays stopped")
        again = instance.starts + 1
        self._cloud.put(
            replace(instance, stopped_at=NEVER, boots_at=now + self._boot_seconds, booted=False, starts=again)
        )
        return None

    def offers(self, pool: PoolRequest) -> list[Offer]:
        """From `types` where the settings have them, else from the catalogue of the cloud that is rehearsed."""
        zones = [zone for zone in pool.spec.get("zones") or self.scopes if zone in self.scopes]
        if types := self._settings.get("types"):
            return offers_of(types, pool, self._region, zones, self._boot_seconds)
        offers = catalog.offers_for(self._cloud_name, self._region, zones, {**pool.spec, "name": pool.name})
        return [replace(offer, pool=pool.name, boot_seconds=self._boot_seconds) for offer in offers]

    def console_log(self, instance_id: str) -> str:
        for instance in self._ours():
            if instance.id == instance_id:
                now = self._now()
                lines = [f"fake cloud: {instance.instance_type} ({instance.market}) in {instance.zone}"]
                lines.append("boots" if now < instance.boots_at < NEVER else "waits for its disk for ever")
                lines[1:] = lines[1:] if instance.state(now) == "pending" else ["booted"]
                if self._boots:
                    lines.append(self._boots.console_log(instance))
                return "\n".join(line for line in lines if line) + "\n"
        return ""

    def directory(self, node_id: str) -> str:
        if self._boots is None:
            raise BadRequest(
                f"node {node_id} is a row in the fake cloud's file: write `boot: local` under `provider: {{fake: ...}}` for "
                "nodes that run here"
            )
        return self._boots.directory(node_id)

    def find_clusters(self) -> list[tuple[str, str, int]]:
        now = self._now()
        found: dict[tuple[str, str], int] = {}
        for instance in self._cloud.instances():
            key = (instance.tags.get(TAG_CLUSTER, ""), instance.tags.get(TAG_UID, ""))
            if instance.lives(now) and key[1]:
                found[key] = found.get(key, 0) + 1
        return sorted((name, uid, count) for (name, uid), count in found.items())

    def doctor(self) -> list[tuple[str, bool, str]]:
        return [(f"the script has {len(self._faults)} faults", True, "")]

    def calls(self) -> list[dict[str, Any]]:
        """The call record, oldest first."""
        return self._cloud.calls()

    def close(self) -> None:
        if self._boots:
            self._boots.close()
        self._cloud.close()

    # ------------------------------------------------------------ create

    def _create(self, request: CreateRequest, now: float) -> CreateResult:
        trouble = self._trouble("create", now, request.offer.key)
        if trouble:
            return trouble
        known = self._cloud.by_token(request.token)
        if known and (known.node_id, known.offer_key) != (request.node_id, request.offer.key):
            return BadRequest(
                f"the token of {request.node_id} was used before, for {known.node_id}: this is a fault of ours"
            )
        if known:
            return self._answer(known, request, now)
        refusal = self._refusal(request.offer, now)
        if refusal:
            return refusal
        if self._struck("lost_call", now, offer=request.offer.key, call="create"):
            return UnknownOutcome(f"no answer came to create {request.node_id}: look again")
        return self._answer(self._make(request, now), request, now)

    def _answer(self, instance: FakeInstance, request: CreateRequest, now: float) -> CreateResult:
        if self._struck("lost_answer", now, offer=request.offer.key, call="create"):
            return UnknownOutcome(f"no answer came to create {request.node_id}: look again")
        return self._show(instance, now, truth=True)

    def _refusal(self, offer: Offer, now: float) -> ProviderError | None:
        """Typed errors of the offer itself."""
        if self._struck("bad_request", now, offer=offer.key):
            return BadRequest(f"{offer.instance_type} is not a valid request in {offer.zone}: choose another type")
        if self._struck("no_capacity", now, offer=offer.key):
            return NoCapacity(
                f"{offer.instance_type} ({offer.market}) is sold out in {offer.zone}: try another zone or type"
            )
        for fault in self._faults:
            if fault.kind != "quota" or not fault.strikes(now, self._cloud.strikes(fault.number), offer=offer.key):
                continue
            live = [i for i in self._cloud.instances() if i.lives(now) and fault.strikes(now, 0, offer=i.offer_key)]
            if len(live) >= fault.limit:
                self._cloud.strike(fault.number)
                text = (
                    f"quota {fault.quota or 'instances'} is {fault.limit:g} and used up: ask the provider to raise it"
                )
                return QuotaExceeded(text, quota=fault.quota)
        return None

    def _make(self, request: CreateRequest, now: float) -> FakeInstance:
        offer = request.offer
        slow = self._struck("slow_boot", now, offer=offer.key)
        boots_at = now + (slow.seconds if slow else self._boot_seconds)
        if self._struck("lost_boot", now, offer=offer.key):
            boots_at = NEVER
        loss = self._struck("spot_loss", now, offer=offer.key)
        taken_at = boots_at + loss.after if loss else NEVER
        stale = self._struck("stale_list", now, offer=offer.key)
        number = self._cloud.next_number()
        return self._cloud.put(
            FakeInstance(
                number=number,
                token=request.token,
                node_id=request.node_id,
                generation=request.generation,
                offer_key=offer.key,
                zone=offer.zone,
                instance_type=offer.instance_type,
                market=offer.market,
                address=self._address(number, now, offer.key),
                created=now,
                created_at=self._clock(),
                boots_at=boots_at,
                taken_at=taken_at,
                noticed_at=taken_at - min(loss.notice, loss.after / 2) if loss and loss.notice else NEVER,
                seen_from=now + stale.seconds if stale else now,
                lag=stale.seconds if stale else 0.0,
                with_agent=not self._struck("no_agent", now, offer=offer.key),
                tags=dict(request.tags),
                bootstrap=dict(request.bootstrap) if self._boots else {},
            )
        )

    def _address(self, number: int, now: float, offer_key: str) -> str:
        if self._boots:
            return "127.0.0.1"
        if any(fault.kind == "address_reuse" for fault in self._faults):
            ended = [i for i in self._cloud.instances() if not i.lives(now)]
            if ended and self._struck("address_reuse", now, offer=offer_key):
                return max(ended, key=lambda i: (i.end(), i.number)).address
        return f"10.{64 + number // 65536 % 64}.{number // 256 % 256}.{number % 256}"

    # ------------------------------------------------------------ list

    def _list_scope(self, scope: str, listed: Sequence[FakeInstance], now: float, at: float) -> Observed:
        rows = [i for i in listed if i.zone == scope]
        if self._struck("missing_pages", now, scope=scope):
            return Observed(scope, (), True, at)
        if self._struck("partial_list", now, scope=scope):
            half = tuple(self._show(i, now) for i in rows[: len(rows) // 2])
            return Observed(scope, half, False, at, f"the list of {scope} broke off after {len(half)} instances")
        return Observed(scope, tuple(self._show(i, now) for i in rows), True, at)

    def _is_listed(self, instance: FakeInstance, now: float) -> bool:
        if now < instance.seen_from:
            return False
        return now < instance.end() + max(float(self._settings.get("linger", 0.0)), instance.lag)

    def _show(self, instance: FakeInstance, now: float, *, truth: bool = False) -> Instance:
        lagging = not truth and not instance.lives(now) and now < instance.end() + instance.lag
        taken = not lagging and instance.taken_at <= now and instance.taken_at < instance.ended_at
        return Instance(
            id=instance.id,
            uid=instance.tags.get(TAG_UID, ""),
            node_id=instance.node_id,
            generation=instance.generation,
            state="running" if lagging else instance.state(now),
            address=instance.address,
            zone=instance.zone,
            instance_type=instance.instance_type,
            market=instance.market,
            created=instance.created_at,
            token=instance.token,
            detail="taken away: spot capacity is needed elsewhere" if taken else instance.ended_by,
            tags=labels_of(dict(instance.tags)),
            reclaimed=taken,
        )

    def _ours(self) -> Sequence[FakeInstance]:
        return [i for i in self._cloud.instances() if i.tags.get(TAG_UID) == self._context.uid]

    # ------------------------------------------------------------ faults and time

    def _now(self) -> float:
        return self._cloud.since_first_use(self._clock()) * self._speed

    def _struck(self, kind: str, now: float, *, offer: str = "", call: str = "", scope: str = "") -> Fault | None:
        """The first fault of that kind that strikes here and now; it is counted."""
        for fault in self._faults:
            used = self._cloud.strikes(fault.number)
            if fault.kind == kind and fault.strikes(now, used, offer=offer, call=call, scope=scope):
                self._cloud.strike(fault.number)
                return fault
        return None

    def _trouble(self, call: str, now: float, offer: str = "") -> ProviderError | None:
        """Errors that strike any call."""
        if self._struck("auth_failed", now, offer=offer):
            return AuthFailed(f"the fake cloud refused to {call}: the credentials have lapsed; renew them")
        throttle = self._struck("throttled", now, offer=offer, call=call)
        if throttle:
            text = f"the fake cloud is asked too often ({call}): again in {throttle.retry_after:g} s"
            return Throttled(text, retry_after=throttle.retry_after / self._speed)
        return None

    def _catch_up(self) -> None:
        """With `boot: local`: what has happened by now to instances happens to their agents, and the other way round."""
        if self._boots:
            with self._cloud.change():
                now, ours = self._now(), self._ours()
            self._boots.catch_up(ours, now, self._moment)

    def _moment(self, seconds: float) -> float:
        """On the caller's clock, when so many of the cloud's seconds will have passed since it was first used."""
        return self._clock() + (seconds - self._now()) / self._speed
