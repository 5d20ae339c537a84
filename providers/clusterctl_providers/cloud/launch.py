"""Batches of nodes into launches of a cloud, and its answers into one result per request.

Each launch is written down before it is made (`book`); one whose outcome the caller does not know is looked for, and made
again as it was. A refusal stands like a wall before the other batches of the same offer, or of the whole cloud; one that
concerns the batch as a whole (a quota, a subnet's addresses) is got past by halves.

A cloud brings a `LaunchCalls`:

    AWS           make = RunInstances (MinCount 1, MaxCount n: what there is capacity for), made = DescribeInstances by
                  client-token
    Google Cloud  make = bulkInsert (minCount 1), until its operation is done or its instances are listed; errors come per
                  instance; made = the instances of these names
    Azure         make = a PUT for each VM with `If-None-Match`, awaited together; those that failed are removed before that is
                  told; made = the VMs of these names that did not fail
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from clusterctl.core.errors import (
    BadRequest,
    NoCapacity,
    NotYet,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import Instance
from clusterctl_providers.base import CreateRequest, CreateResult, PoolRequest
from clusterctl_providers.cloud.batches import Batch, Member, batch_of, make_batches
from clusterctl_providers.cloud.book import BatchBook
from clusterctl_providers.cloud.boot import TooLarge

Results = dict[str, CreateResult]  # by node token
_LAUNCHED = "launched"  # in a page of the book: node token -> what of its instance is noted
_NOTED = ("id", "uid", "node_id", "generation", "zone", "instance_type", "market", "token")


class AlreadyBegun(UnknownOutcome):
    """The cloud knows this token, or this name, from another call: what came of that one is ours, if it shows."""


class LaunchCalls(Protocol):
    """What a cloud knows of its launches. `call` is JSON data that `call_for` made and `make` takes: it survives a crash."""

    cloud: str  # its name in sentences
    each_alone: (
        bool  # a launch is a call for each node: of one that broke off, those that are not there were never asked for
    )

    def fits(self, members: Sequence[Member]) -> bool:
        """Whether so many nodes go into one call."""
        ...

    def beyond(self, requests: Sequence[CreateRequest]) -> Mapping[str, ProviderError]:
        """By node token, those of these like requests that cannot be had, as far as that is known without launching: what is
        free of a reservation. Raises ProviderError where that goes for all of them: a quota too small for one, a gang."""
        ...

    def call_for(self, batch: Batch, requests: Sequence[CreateRequest]) -> dict[str, Any]:
        """The whole call. May make what it takes (a firewall, a key). Raises TooLarge where fewer nodes would do, ProviderError
        where none can be launched so."""
        ...

    def title(self, batch: Batch, call: Mapping[str, Any]) -> str:
        """What is tried, on what: "launching cpu-1 (t3.micro, spot) in us-east-1"."""
        ...

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> Mapping[str, CreateResult]:
        """Launches; a gang (`is_gang`) whole or not at all. A result by node token; whoever is missing found no capacity. Raises
        ProviderError where nothing was launched, AlreadyBegun where the token was used before. `pool` is None for a call of
        the book."""
        ...

    def made(self, batch: Batch) -> Mapping[str, Instance]:
        """By node token, what there is of that batch, ended instances included."""
        ...

    def concerns_all(self, error: ProviderError) -> bool:
        """Whether a refusal is about the batch as a whole, so that fewer nodes might be had."""
        ...


class Launcher:
    def __init__(self, calls: LaunchCalls, book: BatchBook) -> None:
        self._calls, self._book = calls, book

    def launch(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        """A result per request, in order. What an earlier call has begun is asked for again, exactly as it was."""
        results: Results = {}
        with self._book.locked():
            looked_at: set[str] = set()  # batches
            for request in requests:
                begun = self._book.find(request.token)
                if begun is not None and begun[0].token not in looked_at:
                    looked_at.add(begun[0].token)
                    again = (
                        self._again if not self._calls.each_alone else self._gang if is_gang([request]) else self._each
                    )
                    results |= again(*begun)
            fresh = {request.token: request for request in requests if request.token not in results}
            walls: dict[str, ProviderError] = {}  # offers that turned us down, and "" for all of the cloud
            for batch in make_batches(list(fresh.values()), self._calls.fits):
                results |= self._first(batch, walls)
        return [results[request.token] for request in requests]

    def _first(self, requests: list[CreateRequest], walls: dict[str, ProviderError]) -> Results:
        offer = requests[0].offer
        wall = walls.get("") or walls.get(offer.key)
        if wall:
            return _all(requests, wall)
        try:
            if beyond := self._calls.beyond(requests):
                rest = [request for request in requests if request.token not in beyond]
                return {**beyond, **(self._first(rest, walls) if rest else {})}
            batch = batch_of(requests)
            call = self._calls.call_for(batch, requests)
        except TooLarge as error:
            return self._halves(requests, walls) if _divisible(requests) else _all(requests, error)
        except ProviderError as error:
            walls[offer.key] = error
            return _all(requests, _before_the_call(error))
        self._book.write(batch, call)
        results = self._run(batch, call, requests[0].pool)
        if self._calls.each_alone:
            self._note(batch, results)
        wall = next((r for r in results.values() if isinstance(r, ProviderError)), None)
        if wall and self._calls.concerns_all(wall) and _divisible(requests) and not _any_launched(results):
            return self._halves(requests, walls)
        if isinstance(wall, NoCapacity | QuotaExceeded | BadRequest | NotYet):
            walls[offer.key] = wall
        elif wall:
            walls[""] = wall
        return results

    def _halves(self, requests: list[CreateRequest], walls: dict[str, ProviderError]) -> Results:
        """What is all or nothing in a call: takes what still fits."""
        middle = len(requests) // 2
        return self._first(requests[:middle], walls) | self._first(requests[middle:], walls)

    def _run(self, batch: Batch, call: dict[str, Any], pool: PoolRequest | None = None) -> Results:
        try:
            made = self._calls.make(batch, call, pool)
        except AlreadyBegun as error:
            return self._shown(batch, error)
        except ProviderError as error:
            if not isinstance(error, UnknownOutcome | Throttled):
                self._book.forget(batch)
            return dict.fromkeys(batch.node_tokens, error)
        return self._with_missing(batch, call, made)

    def _again(self, batch: Batch, call: dict[str, Any]) -> Results:
        """A call whose outcome the caller does not know: what is there is taken, else the call is made again."""
        try:
            shown = self._calls.made(batch)
            if not shown:
                results = self._run(batch, call)
                shown = self._calls.made(batch) if _any_launched(results) else {}
                return {**results, **shown}
        except ProviderError as error:
            unknown = error if isinstance(error, Throttled) else UnknownOutcome(str(error))
            return dict.fromkeys(batch.node_tokens, unknown)
        return self._with_missing(batch, call, shown)

    def _each(self, batch: Batch, call: Mapping[str, Any]) -> Results:
        """What is there, and what ended, of nodes that are asked for one by one; the others are asked for as if they were new."""
        try:
            shown = self._calls.made(batch)
        except ProviderError as error:
            unknown = error if isinstance(error, Throttled) else UnknownOutcome(str(error))
            return dict.fromkeys(batch.node_tokens, unknown)
        return {**_ended(call), **shown}

    def _gang(self, batch: Batch, call: Mapping[str, Any]) -> Results:
        """Of one that is not whole all are asked for: who is there already is met."""
        found = self._each(batch, call)
        return found if len(found) == len(batch.members) else {}

    def _note(self, batch: Batch, results: Results) -> None:
        """Who was launched: a call for it is not made again, and what it said is not needed any more."""
        launched = {token: asdict(each) for token, each in results.items() if isinstance(each, Instance)}
        if launched:
            self._book.write(
                batch, {_LAUNCHED: {token: {k: each[k] for k in _NOTED} for token, each in launched.items()}}
            )

    def _shown(self, batch: Batch, error: AlreadyBegun) -> Results:
        try:
            shown = self._calls.made(batch)
        except ProviderError as trouble:
            return dict.fromkeys(batch.node_tokens, UnknownOutcome(str(trouble)))
        return {token: shown.get(token, error) for token in batch.node_tokens}

    def _with_missing(self, batch: Batch, call: Mapping[str, Any], made: Mapping[str, CreateResult]) -> Results:
        launched = sum(1 for result in made.values() if isinstance(result, Instance))
        had = f"{self._calls.cloud} had capacity for {launched} of {len(batch.members)}"
        missing = NoCapacity(f"{self._calls.title(batch, call)}: {had}")
        return {token: made.get(token, missing) for token in batch.node_tokens}


def is_gang(requests: Sequence[CreateRequest]) -> bool:
    """Bought whole or not at all."""
    return bool(requests[0].pool.spec.get("one_zone"))


def _ended(call: Mapping[str, Any]) -> Results:
    """Those of a page that were launched, as if none of them were there any more."""
    gone = "it was launched, and has ended since"
    noted = dict(call.get(_LAUNCHED) or {})
    return {token: Instance(**each, state="terminated", detail=gone) for token, each in noted.items()}


def _before_the_call(error: ProviderError) -> ProviderError:
    """Nothing was launched: what is unknown about a preparation is no unknown launch, the same token comes again."""
    return Throttled(str(error), retry_after=2.0) if isinstance(error, UnknownOutcome) else error


def _divisible(requests: Sequence[CreateRequest]) -> bool:
    return len(requests) > 1 and not is_gang(requests)


def _any_launched(results: Results) -> bool:
    return any(isinstance(result, Instance) for result in results.values())


def _all(requests: Sequence[CreateRequest], error: ProviderError) -> Results:
    return {request.token: error for request in requests}
