"""Acme, a cloud of these tests alone: what launches, shows and ends instances in the memory of this process. Its faults are
those that every cloud has: no capacity, a quota, an answer that is lost after all was done, a line that is cut before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterctl_providers.base import CreateRequest, CreateResult, PoolRequest
from clusterctl_providers.cloud.batches import Batch, Member, names_of
from clusterctl_providers.cloud.boot import TooLarge
from clusterctl_providers.cloud.launch import AlreadyBegun

from clusterctl.core.errors import ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.any_cloud.requests import instance


class Acme:
    """`capacity` and `quota` count nodes. `faults` are raised by the next calls, one each; one in `late` after the work."""

    cloud = "Acme"
    each_alone = False

    def __init__(self, capacity: int = 100, quota: int = 100, most: int = 50) -> None:
        self.capacity, self.quota, self.most = capacity, quota, most
        self.longest = 100  # nodes whose user data fit into a call
        self.refused: dict[str, ProviderError] = {}  # node id -> what `beyond` says
        self.faults: list[ProviderError] = []
        self.late: list[ProviderError] = []
        self.calls: list[tuple[str, int]] = []  # (title, nodes), of each launch that was sent
        self.tokens: dict[str, dict[str, Any]] = {}
        self.machines: dict[str, dict[str, Instance]] = {}  # call's token -> node token -> instance
        self.hidden = False  # what was launched shows in no list yet

    def fits(self, members: Sequence[Member]) -> bool:
        return len(members) <= self.most

    def beyond(self, requests: Sequence[CreateRequest]) -> Mapping[str, ProviderError]:
        return {r.token: self.refused[r.node_id] for r in requests if r.node_id in self.refused}

    def call_for(self, batch: Batch, requests: Sequence[CreateRequest]) -> dict[str, Any]:
        if len(batch.members) > self.longest:
            raise TooLarge(f"the user data of {len(batch.members)} nodes is too long")
        gang = bool(requests[0].pool.spec.get("one_zone"))
        return {"type": requests[0].offer.instance_type, "least": len(requests) if gang else 1}

    def title(self, batch: Batch, call: Mapping[str, Any]) -> str:
        return f"launching {names_of(batch)} ({call['type']})"

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> Mapping[str, CreateResult]:
        self.calls.append((self.title(batch, call), len(batch.members)))
        if self.faults:
            raise self.faults.pop(0)
        if batch.token in self.tokens:
            if self.tokens[batch.token] != dict(call):
                raise AlreadyBegun("that token was used for another call")
            return dict(self.machines[batch.token])
        if len(batch.members) > self.quota:
            raise QuotaExceeded("the quota is used up", quota="nodes")
        count = min(len(batch.members), self.capacity)
        if count < call["least"]:
            count = 0
        self.tokens[batch.token] = dict(call)
        made = [instance(len(self.all()) + n, *batch.members[n]) for n in range(count)]
        self.machines[batch.token] = {batch.node_tokens[n]: one for n, one in enumerate(made)}
        self.capacity -= count
        self.quota -= count
        if self.late:
            raise self.late.pop(0)
        return dict(self.machines[batch.token])

    def made(self, batch: Batch) -> dict[str, Instance]:
        return {} if self.hidden else dict(self.machines.get(batch.token, {}))

    def concerns_all(self, error: ProviderError) -> bool:
        return isinstance(error, QuotaExceeded)

    def all(self) -> list[Instance]:
        return [one for machines in self.machines.values() for one in machines.values()]

    def names(self) -> Iterator[str]:
        return (one.node_id for one in self.all())


def lost() -> UnknownOutcome:
    return UnknownOutcome("no clear answer of Acme")
