"""The SSH provider: instances are claims on machines that are there already, parked with a daemon that waits for its head.

Nothing is dialled or installed here: `ProviderContext.hosts` is who can speak to the hosts. In the head that is its books of
connected hosts (`clusterctl_runtime.head.nodes.standby`), so that a launch is one message; on the client there is none, and
whoever takes a cluster down there goes to the hosts by SSH.

One host is one scope of a list: a silent one leaves only itself in doubt.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, UnknownOutcome
from clusterctl.core.model import Instance, Observed, Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl_providers.base import CreateRequest, CreateResult, PoolRequest, ProviderContext
from clusterctl_providers.catalog.gpu_names import model_of
from clusterctl_providers.hosts import ClaimView, HostBooks, HostView

ZONE = "ssh"
ANSWER_SECONDS = 10.0  # for which a claim's answer is waited for; then its outcome is unknown
ACCEPT_WITHIN = 0.25  # seconds that `terminate` waits for the end itself
SHOW_ENDED = 60.0  # for so long a list still shows what has ended, so that nobody looks for it elsewhere
GIB = 1024**3


class SshProvider:
    name = "ssh"
    settle_seconds = 0.0  # a list shows the truth at once
    in_flight_seconds = 0.0  # what was asked of a host is on disk before it is sent, and in its list
    offers_last = 0.0  # seconds: hosts come and go, and looking costs nothing

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._reach = context.hosts

    @property
    def scopes(self) -> Sequence[str]:
        return [host.id for host in self._hosts()]

    # ------------------------------------------------------------ launches

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        """Books all claims, sends them, then waits for all answers."""
        reach, free = self._need_reach(), _Free(self)
        with reach.exclusive():
            asked = [self._ask(reach, request, free) for request in requests]
        reach.send()
        return [
            answer if answer is not None else self._answer(request)
            for request, answer in zip(requests, asked, strict=True)
        ]

    def _ask(self, reach: HostBooks, request: CreateRequest, free: _Free) -> CreateResult | None:
        """Claims a host; a result where there is nothing to wait for."""
        found = reach.find(request.token)
        host, claim = found or (None, None)
        if reach.ended(request.token) or (claim and claim.state == "terminated"):
            return self._ended(request)
        if claim is not None and claim.state == "running" and host is not None:
            return self._instance(host, claim)
        chosen = host or self._choose(request, free)
        if isinstance(chosen, ProviderError):
            return chosen
        if not chosen.connected:
            return UnknownOutcome(f"host {chosen.id}, which was asked for {request.node_id}, is silent: {chosen.why}")
        reach.claim(chosen.id, self._claim(request))
        return None

    def _answer(self, request: CreateRequest) -> CreateResult:
        reach, token = self._need_reach(), request.token
        reach.wait(lambda: bool(reach.refusal(token)) or self._state(token) not in ("pending", ""), ANSWER_SECONDS)
        host, claim = reach.find(token) or (None, None)
        reason = reach.refusal(token)
        if reason:
            return NoCapacity(f"a host of pool {request.pool.name} did not take {request.node_id}: {reason}")
        if host is None or claim is None or claim.state in ("pending", "unknown"):
            return UnknownOutcome(f"the host that was asked for {request.node_id} has not answered; asking it again")
        return self._instance(host, claim)

    def _choose(self, request: CreateRequest, free: _Free) -> HostView | ProviderError:
        """The first free host of the offer's kind, in the inventory's order."""
        host = free.take(request)
        if host is not None:
            return host
        hosts = [host for host in self._hosts() if host.serves(request.pool.role, request.pool.name)]
        if not hosts:
            return BadRequest(f"pool {request.pool.name} has no host in the inventory: list some under `hosts`")
        silent = "; ".join(f"{host.id}: {host.why}" for host in hosts if not host.connected)
        return NoCapacity(
            f"none of the {len(hosts)} hosts of pool {request.pool.name} is free" + (f" ({silent})" if silent else "")
        )

    def free_hosts(self, request: CreateRequest) -> Iterator[HostView]:
        """Hosts of the offer's kind that are free now, in the inventory's order."""
        wanted, pool = _wanted(request), request.pool
        for host in self._hosts():
            if (
                host.serves(pool.role, pool.name)
                and host.is_free(pool.role)
                and _shape(self._resources(host, pool)) == wanted
            ):
                yield host

    def _claim(self, request: CreateRequest) -> dict[str, Any]:
        return {
            "instance": self.instance_id(request.token),
            "token": request.token,
            "node_id": request.node_id,
            "generation": request.generation,
            "role": request.pool.role,
            "tags": dict(request.tags),
            "instance_type": request.offer.instance_type,
            "zone": request.offer.zone,
            "orphan_timeout": float(request.pool.spec.get("orphan_timeout") or 900.0),
            "bootstrap": dict(request.bootstrap),
        }

    # ------------------------------------------------------------ what there is

    def list(self) -> list[Observed]:
        now = time.time()
        return [self._observed(host, now) for host in self._hosts()]

    def _observed(self, host: HostView, now: float) -> Observed:
        doubt = any(claim.state == "unknown" for claim in host.claims)
        recent = [c for c in host.claims if c.state != "terminated" or now - c.ended < SHOW_ENDED]
        error = f"host {host.id} is silent and may still run a node: {host.why}" if doubt else ""
        return Observed(host.id, tuple(self._instance(host, claim) for claim in recent), not doubt, now, error)

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """By the books of the hosts' claims, which whoever has no way to the hosts does not have."""
        self._need_reach()
        claims = [(host, claim) for host in self._hosts() for claim in host.claims]
        return {claim.instance: self._instance(host, claim) for host, claim in claims if claim.instance in instance_ids}

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Has hosts release their claims; what takes longer than a moment is listed as stopping."""
        wanted = {i for i in instance_ids if _uid_of(i) == self._context.uid}
        if not wanted:
            return
        reach = self._need_reach()
        reach.release(sorted(wanted))
        reach.wait(lambda: not self._living(wanted), ACCEPT_WITHIN)
        silent = [h for h in self._hosts() if any(c.instance in wanted and c.state == "unknown" for c in h.claims)]
        if silent:
            names = "; ".join(f"{host.id} ({host.why})" for host in silent)
            raise ProviderError(
                f"these hosts are silent and could not be told to end their nodes: {names}. Each ends its node itself "
                "when its lease has run out; bring it back, or wait"
            )

    def _living(self, wanted: set[str]) -> bool:
        return any(c.instance in wanted and c.state != "terminated" for h in self._hosts() for c in h.claims)

    def offers(self, pool: PoolRequest) -> list[Offer]:
        """One offer for each kind of connected host; kinds of which none is free only where no host is. Where nobody can
        speak to hosts, what the spec says of them."""
        if self._reach is None:
            return [self._offer(_host_as_written(pool), pool)]
        hosts = [host for host in self._hosts() if host.serves(pool.role, pool.name) and host.connected]
        free = [host for host in hosts if host.is_free(pool.role)]
        made = {self._offer(host, pool) for host in free or hosts}
        return sorted(made)

    def most(self, pool: PoolRequest) -> int:
        """How many nodes of the pool there can be: its hosts that are here, or hold a node that has not ended: a host whose
        daemon is away for a moment goes on with its node."""
        return sum(
            host.serves(pool.role, pool.name)
            and (host.connected or any(c.role == pool.role and c.state != "terminated" for c in host.claims))
            for host in self._hosts()
        )

    def _offer(self, host: HostView, pool: PoolRequest) -> Offer:
        resources = self._resources(host, pool)
        gpu_type = _gpu_type(host, pool)
        return Offer(
            pool=pool.name,
            instance_type=_type_name(resources, gpu_type),
            market="on-demand",
            zone=ZONE,
            price=0.0,
            resources=Resources.of(resources),
            labels=labels_of({**dict(pool.spec.get("labels") or {}), **host.labels}),
            gpu_type=gpu_type,
            price_source="your own machines",
            boot_seconds=0.3,
        )

    def _resources(self, host: HostView, pool: PoolRequest) -> dict[str, float]:
        """What the host says of itself wins over what the pool says, and that over what was found there. A head node on a
        host that also takes work has nothing but its slots for drivers."""
        if pool.role == "head" and host.pools:
            return {"CPU": 0.0}
        facts = host.facts
        found = {"CPU": float(facts.get("cpus") or 1), "memory": float(_rounded(int(facts.get("memory") or 0)))}
        gpus: Sequence[Any] = facts.get("gpus") or ()
        if gpus:
            found["GPU"] = float(len(gpus))
        amounts = {**found, **dict(pool.spec.get("resources") or {}), **host.resources}
        return {str(name): float(amount) for name, amount in amounts.items() if amount}

    # ------------------------------------------------------------ abilities

    def console_log(self, instance_id: str) -> str:
        return self._reach.console(instance_id) if self._reach else ""

    def doctor(self) -> list[tuple[str, bool, str]]:
        return [(f"host {host.id} is connected", host.connected, host.why) for host in self._hosts()]

    def find_clusters(self) -> list[tuple[str, str, int]]:
        count = sum(claim.state != "terminated" for host in self._hosts() for claim in host.claims)
        return [(self._context.cluster, self._context.uid, count)] if count else []

    def close(self) -> None:
        return

    def instance_id(self, token: str) -> str:
        """The id that a launch token leads to. Names the owner: it is in the environment of all that runs for it."""
        return f"ssh-{uuid.UUID(self._context.uid).hex}-{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    # ------------------------------------------------------------ inside

    def _hosts(self) -> Sequence[HostView]:
        return self._reach.hosts() if self._reach else ()

    def _need_reach(self) -> HostBooks:
        if self._reach is None:
            raise ProviderError("hosts are claimed and released by the head: `clusterctl up SPEC` starts it")
        return self._reach

    def _state(self, token: str) -> str:
        found = self._need_reach().find(token)
        return found[1].state if found else ""

    def _instance(self, host: HostView, claim: ClaimView) -> Instance:
        return Instance(
            id=claim.instance,
            uid=self._context.uid,
            node_id=claim.node_id,
            generation=claim.generation,
            state="running" if claim.state == "unknown" else claim.state,
            address=host.address,
            zone=claim.zone or ZONE,
            instance_type=claim.instance_type,
            created=claim.created,
            token=claim.token,
            detail=f"on host {host.id}",
            tags=labels_of(dict(claim.tags)),
        )

    def _ended(self, request: CreateRequest) -> Instance:
        return Instance(
            self.instance_id(request.token), self._context.uid, request.node_id, request.generation, "terminated",
            token=request.token, detail="(its token is used up)", tags=labels_of(dict(request.tags)),
        )  # fmt: skip


class _Free:
    """The hosts that one call of `create` may claim: each kind of request walks once through the inventory."""

    def __init__(self, provider: SshProvider) -> None:
        self._provider = provider
        self._taken: set[tuple[str, str]] = set()  # host, role
        self._hosts: dict[tuple[str, str, Resources], Iterator[HostView]] = {}

    def take(self, request: CreateRequest) -> HostView | None:
        """The next one that fits; it is not given again for a node of that role."""
        role = request.pool.role
        key = (request.pool.name, role, request.offer.resources)
        hosts = self._hosts.setdefault(key, self._provider.free_hosts(request))
        host = next((host for host in hosts if (host.id, role) not in self._taken), None)
        if host is not None:
            self._taken.add((host.id, role))
        return host


def _host_as_written(pool: PoolRequest) -> HostView:
    """A host nobody has been to yet."""
    return HostView("", "", (pool.name,), pool.role == "head", True, "", {}, {}, {}, ())


def _rounded(memory: int) -> int:
    """Machines of one kind differ by some pages, which makes no other kind of them."""
    step = GIB if memory >= 4 * GIB else GIB // 16
    return memory // step * step


def _gpu_type(host: HostView, pool: PoolRequest) -> str:
    """The name that the spec gives wins: the driver's is long ("NVIDIA L4")."""
    named = str((pool.spec.get("gpu") or {}).get("name") or "")
    gpus: Sequence[Mapping[str, Any]] = host.facts.get("gpus") or ()
    found = str(gpus[0].get("name") or "") if gpus else ""
    return named or model_of(found)


def _type_name(resources: Mapping[str, float], gpu_type: str) -> str:
    """Names a kind of machine: "8cpu-31gib-2xL4"."""
    parts = [f"{resources.get('CPU', 0):g}cpu", f"{resources.get('memory', 0) / GIB:.0f}gib"]
    if resources.get("GPU"):
        parts.append(f"{resources['GPU']:g}x{gpu_type or 'gpu'}")
    return "-".join(parts)


def _shape(resources: Mapping[str, float]) -> dict[str, float]:
    return Resources.of(dict(resources)).to_dict()


def _wanted(request: CreateRequest) -> dict[str, float]:
    return request.offer.resources.to_dict()


def _uid_of(instance_id: str) -> str:
    """The uid in an instance id of this provider, "" when it is none."""
    parts = instance_id.split("-")
    try:
        return str(uuid.UUID(parts[1])) if len(parts) == 3 and parts[0] == "ssh" else ""
    except ValueError:
        return ""
