"""Ending, stopping and starting instances, as many at once as a cloud takes: only ours, and what fails is one instance.

A cloud brings `PowerCalls`:

    AWS           one call for 500; a single id that is in the way makes EC2 refuse them all, so that halves are tried
    Google Cloud  one call each, sent together; the operation of a start is awaited, since its zone may have no room
    Azure         one call each (delete, deallocate, start), awaited together; a VM that is gone is 404
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.cloud.listing import Listing

Verb = Literal["end", "stop", "start"]
Answers = dict[str, ProviderError | None]
DOING: dict[Verb, str] = {"end": "ending", "stop": "stopping", "start": "starting"}
_NAMED = 5  # instances in a sentence


class PowerCalls(Protocol):
    cloud: str  # its name in sentences
    most: int  # instances in one `change`

    def is_id(self, text: str) -> bool:
        """Whether it could be an instance of this cloud at all."""
        ...

    def change(self, verb: Verb, instance_ids: Sequence[str]) -> Answers:
        """An answer for each that the cloud knows, None = accepted. Raises ProviderError where nothing was done to any."""
        ...

    def is_of_one(self, error: ProviderError) -> bool:
        """Whether others that were refused with it may get through without the one that the error is about."""
        ...


class Power:
    """Only what carries our uid is touched."""

    def __init__(self, calls: PowerCalls, listing: Listing) -> None:
        self._calls, self._listing = calls, listing

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """What the cloud does not know (any more) has ended. Raises the first error, after all were tried."""
        ours = self._ours(instance_ids)
        failed: list[ProviderError] = []
        for start in range(0, len(ours), self._calls.most):
            part = ours[start : start + self._calls.most]
            try:
                answers = self._calls.change("end", part)
            except ProviderError as error:
                failed.append(error)
                continue
            failed += filter(None, answers.values())
            self._listing.let_go(i for i in part if i in answers and answers[i] is None)
        if failed:
            raise failed[0]

    def stop(self, instance_ids: Sequence[str]) -> None:
        """What the cloud does not know (any more) is passed over. Raises the first error, after all were tried."""
        failed = [error for error in self._each("stop", self._ours(instance_ids)).values() if error]
        if failed:
            raise failed[0]

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        """An answer for each, in order; BadRequest for what is not ours, or not known any more."""
        gone = BadRequest(f"{self._calls.cloud} does not know the stopped instance any more: another is launched")
        answers = self._each("start", self._ours(instance_ids))
        return [answers.get(instance_id, gone) for instance_id in instance_ids]

    def _each(self, verb: Verb, ids: Sequence[str]) -> Answers:
        """Where one of a call is in the way of the others, halves are tried. Ids that the cloud does not know have no answer."""
        most = self._calls.most
        if len(ids) > most:
            return self._each(verb, ids[:most]) | self._each(verb, ids[most:])
        if not ids:
            return {}
        try:
            return self._calls.change(verb, ids)
        except ProviderError as error:
            if len(ids) > 1 and self._calls.is_of_one(error):
                half = len(ids) // 2
                return self._each(verb, ids[:half]) | self._each(verb, ids[half:])
            return dict.fromkeys(ids, error)

    def _ours(self, instance_ids: Sequence[str]) -> list[str]:
        return self._listing.owned([i for i in dict.fromkeys(instance_ids) if self._calls.is_id(i)])


def doing(verb: Verb, ids: Sequence[str]) -> str:
    """For sentences: "ending vm-1, vm-2"; the first few by name."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{DOING[verb]} {', '.join(ids[:_NAMED])}{more}"
