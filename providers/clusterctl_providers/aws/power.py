"""Ending, stopping and starting instances, many in a call: what AWS does not know is left out, what fails is one instance."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.instances import Listing

INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{17}|[0-9a-f]{8})")
MOST = 500  # instances in one call
_VERBS = {"terminate_instances": "ending", "stop_instances": "stopping", "start_instances": "starting"}


class Power:
    """Only what carries our uid is touched."""

    def __init__(self, calls: Calls, listing: Listing) -> None:
        self._calls, self._listing = calls, listing

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """What AWS does not know (any more) has ended."""
        ours = self._ours(instance_ids)
        failed: list[ProviderError] = []
        for start in range(0, len(ours), MOST):
            try:
                failed += filter(None, self._call("terminate_instances", ours[start : start + MOST]).values())
            except ProviderError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def stop(self, instance_ids: Sequence[str]) -> None:
        failed = [error for error in self._each("stop_instances", self._ours(instance_ids)).values() if error]
        if failed:
            raise failed[0]

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        gone = BadRequest("AWS does not know the stopped instance any more: another is launched")
        answers = self._each("start_instances", self._ours(instance_ids))
        return [answers.get(instance_id, gone) for instance_id in instance_ids]

    def _each(self, operation: str, ids: Sequence[str]) -> dict[str, ProviderError | None]:
        """EC2 does it to all of a call or to none: where one of them is in the way, halves are tried. Ids that AWS does not
        know have no answer."""
        if len(ids) > MOST:
            return self._each(operation, ids[:MOST]) | self._each(operation, ids[MOST:])
        try:
            return self._call(operation, ids)
        except ProviderError as error:
            if len(ids) > 1 and _is_of_one(error):
                half = len(ids) // 2
                return self._each(operation, ids[:half]) | self._each(operation, ids[half:])
            return dict.fromkeys(ids, error)

    def _ours(self, instance_ids: Sequence[str]) -> list[str]:
        return self._listing.owned([i for i in dict.fromkeys(instance_ids) if INSTANCE_ID.fullmatch(i)])

    def _call(self, operation: str, ids: Sequence[str]) -> dict[str, ProviderError | None]:
        """One id that EC2 does not know, or that is protected, makes it refuse the whole call: it is left out and the call
        made again. What AWS does not know any more has no answer."""
        left, answers = [*ids], dict[str, ProviderError | None]()
        while left:
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            what = f"{_VERBS[operation]} {', '.join(left[:5])}{more}"
            try:
                self._calls.call("ec2", operation, what, InstanceIds=left)
                break
            except BadRequest as error:
                named = {match.group(0) for match in INSTANCE_ID.finditer(str(error.__cause__))} & set(left)
                code = code_behind(error)
                if code not in ("InvalidInstanceID.NotFound", "OperationNotPermitted") or not named:
                    raise
                answers |= self._left_out(operation, sorted(named), error, code)
                left = [i for i in left if i not in named]
        if operation == "terminate_instances":
            self._listing.let_go(left)
        return answers | dict.fromkeys(left)

    def _left_out(
        self, operation: str, named: Sequence[str], error: BadRequest, code: str
    ) -> dict[str, ProviderError | None]:
        if code == "OperationNotPermitted":
            return dict.fromkeys(named, error)
        new = [i for i in named if self._listing.is_new(i)]
        text = f"{_VERBS[operation]} {', '.join(new)}: AWS does not know what it has just launched yet"
        return dict.fromkeys(new, UnknownOutcome(text))


def _is_of_one(error: ProviderError) -> bool:
    """Whether the others of the call may get through without the one that it is about."""
    if isinstance(error, NoCapacity | QuotaExceeded | BadRequest):
        return True
    return code_behind(error) == "IncorrectInstanceState"
