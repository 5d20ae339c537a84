"""A cloud that exists in numbers only: machines boot, fail to come, are reclaimed and cost money until they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded, Throttled, UnknownOutcome
from clusterctl.core.model import Instance, Node, Observed, Offer, labels_of
from clusterctl.core.simulate.draws import chance, exponential, lognormal
from clusterctl.core.simulate.world import HOUR, Shortages, World

SCOPE = "simulated"


@dataclass
class Machine:
    """`joins` is when its agent dials in (None = never), `reclaimed` when the spot market takes it (None = never),
    `ended` when billing stopped, `vanishes` when the list lacks it, `stops` when it is listed as stopped (None = it runs)."""

    id: str
    token: str
    node_id: str
    generation: int
    offer: Offer
    created: float
    runs: float
    joins: float | None
    reclaimed: float | None
    ended: float | None = None
    vanishes: float | None = None
    stops: float | None = None


class SimulatedCloud:
    """`machines` holds every machine there ever was; `listed` those that the list still shows."""

    def __init__(self, world: World, seed: int, cluster: str, uid: str) -> None:
        self.world = world
        self.machines: dict[str, Machine] = {}
        self.listed: dict[str, Machine] = {}
        self._seed = seed
        self._cluster = cluster
        self._uid = uid
        self._shortages = Shortages(world, seed)
        self._by_token: dict[str, Machine] = {}
        self._fresh: list[Machine] = []
        self._launched: dict[str, int] = {}  # hardware -> machines so far, so that the n-th is alike in every policy
        self._calls = 0
        self._lists = 0
        self._tokens = float(world.call_burst)  # of the rate limit
        self._refilled = 0.0
        self._cached: tuple[Instance, ...] | None = None
        self._cached_until = 0.0

    def create(self, nodes: Sequence[Node], now: float) -> list[Machine | ProviderError]:
        """One answer per node, in order. A launch token that is known is answered with its machine."""
        return [self._create(node, now) for node in nodes]

    def _create(self, node: Node, now: float) -> Machine | ProviderError:
        offer = node.offer
        self._calls += 1
        self._tokens = min(
            self._tokens + (now - self._refilled) * self.world.calls_per_second, float(self.world.call_burst)
        )
        self._refilled = now
        if self._tokens < 1:
            wait = (1 - self._tokens) / self.world.calls_per_second
            return Throttled(f"too many calls: try again in {wait:.1f} s", retry_after=max(wait, 0.2))
        self._tokens -= 1
        if chance(self.world.lost_calls, self._seed, "lost call", self._calls):
            return UnknownOutcome(f"no answer about {node.id}; looking again")
        machine = self._by_token.get(node.token)
        if machine is None:
            refusal = self._refusal(offer, now)
            if refusal is not None:
                return refusal
            machine = self._make(node, now)
        if chance(self.world.lost_answers, self._seed, "lost answer", self._calls):
            return UnknownOutcome(f"no answer about {node.id}; looking again")
        return machine

    def _refusal(self, offer: Offer, now: float) -> ProviderError | None:
        if self._shortages.is_short(offer, now):
            return NoCapacity(f"no {offer.market} {offer.instance_type} left in {offer.zone}; try another offer")
        for instance_type, most in self.world.quotas:
            if instance_type == offer.instance_type:
                have = sum(
                    1 for m in self.listed.values() if m.ended is None and m.offer.instance_type == instance_type
                )
                if have >= most:
                    text = f"the quota of {most} x {instance_type} is used up; ask for a larger one"
                    return QuotaExceeded(text, quota=instance_type)
        return None

    def _make(self, node: Node, now: float) -> Machine:
        offer, world, seed = node.offer, self.world, self._seed
        boot, hardware, number = self._boot_seconds(offer)
        dead = chance(world.dead_boots, seed, "dead", hardware, number)
        reclaimed = None
        if offer.market == "spot" and world.spot_life_hours is not None:
            reclaimed = now + exponential(world.spot_life_hours * HOUR, seed, "life", hardware, number)
        machine = Machine(
            id=f"i-{len(self.machines) + 1:06d}",
            token=node.token,
            node_id=node.id,
            generation=node.generation,
            offer=offer,
            created=now,
            runs=now + boot * 0.4,
            joins=None if dead else now + boot,
            reclaimed=reclaimed,
        )
        self.machines[machine.id] = self.listed[machine.id] = self._by_token[node.token] = machine
        self._fresh.append(machine)
        self._cached = None
        return machine

    def _boot_seconds(self, offer: Offer) -> tuple[float, str, int]:
        """How long the next machine of this hardware boots; the hardware, and how many of it there were."""
        hardware = f"{offer.instance_type}/{offer.market}/{offer.zone}"
        number = self._launched[hardware] = self._launched.get(hardware, 0) + 1
        boot = lognormal(offer.boot_seconds, self.world.boot_sigma, self._seed, "boot", hardware, number)
        if chance(self.world.slow_boots, self._seed, "slow", hardware, number):
            boot *= self.world.slow_boot_factor
        return boot, hardware, number

    def just_made(self) -> list[Machine]:
        """Machines made since the last call of this: their bills begin."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def terminate(self, machine_id: str, now: float) -> Machine | None:
        """Stops the bill at once; the list shows the machine a while longer. None if it had ended before."""
        machine = self.listed.get(machine_id)
        if machine is None or machine.ended is not None:
            return None
        machine.ended = now
        machine.vanishes = now + self.world.ending
        self._cached = None
        return machine

    def stop(self, machine_id: str, now: float) -> Machine | None:
        """Stops the bill at once; it takes as long as an end. None if there is nothing to stop."""
        machine = self.listed.get(machine_id)
        if machine is None or machine.ended is not None or machine.stops is not None:
            return None
        machine.stops, machine.joins = now + self.world.ending, None
        self._cached = None
        return machine

    def start(self, machine_id: str, now: float) -> Machine | ProviderError:
        """A stopped machine boots again, if its zone has room for it; it takes as long as a new one."""
        machine = self.listed.get(machine_id)
        if machine is None or machine.ended is not None:
            return BadRequest(f"{machine_id} has ended: there is nothing to start")
        if self._shortages.is_short(machine.offer, now):
            offer = machine.offer
            return NoCapacity(f"no {offer.market} {offer.instance_type} left in {offer.zone}; try another offer")
        boot = self._boot_seconds(machine.offer)[0]
        machine.stops, machine.runs, machine.joins = None, now + boot * 0.4, now + boot
        self._cached = None
        return machine

    def vanish(self, machine_id: str) -> None:
        """The list stops showing a machine."""
        if self.listed.pop(machine_id, None) is not None:
            self._cached = None

    def observe(self, now: float) -> Observed:
        """What the list shows, or some of it when the list breaks off."""
        self._lists += 1
        instances = self._instances(now)
        if chance(self.world.partial_lists, self._seed, "partial", self._lists):
            seen = instances[: len(instances) // 2]
            return Observed(SCOPE, seen, False, now, "the list broke off after its first page")
        return Observed(SCOPE, instances, True, now)

    def _instances(self, now: float) -> tuple[Instance, ...]:
        if self._cached is None or now >= self._cached_until:
            self._cached = tuple(self._instance(machine, now) for machine in self.listed.values())
            alive = [m for m in self.listed.values() if m.ended is None]
            changes = [at for m in alive for at in (m.runs, m.stops) if at is not None and at > now]
            self._cached_until = min(changes, default=float("inf"))
        return self._cached

    def _instance(self, machine: Machine, now: float) -> Instance:
        state = "pending" if now < machine.runs else "running"
        if machine.stops is not None:
            state = "stopping" if now < machine.stops else "stopped"
        return Instance(
            id=machine.id,
            uid=self._uid,
            node_id=machine.node_id,
            generation=machine.generation,
            state="stopping" if machine.ended is not None else state,
            address=f"10.0.0.{machine.id}",
            zone=machine.offer.zone,
            instance_type=machine.offer.instance_type,
            market=machine.offer.market,
            created=machine.created,
            token=machine.token,
            tags=labels_of({"clusterctl-cluster": self._cluster, "clusterctl-uid": self._uid}),
        )
