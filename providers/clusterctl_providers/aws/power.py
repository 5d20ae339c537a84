"""TerminateInstances, StopInstances and StartInstances (`cloud.power.PowerCalls`): EC2 does it to all of a call or to none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded, UnknownOutcome
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.power import Answers, Verb, doing

INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{17}|[0-9a-f]{8})")
_OPERATIONS: dict[Verb, str] = {"end": "terminate_instances", "stop": "stop_instances", "start": "start_instances"}


class Ec2Power:
    cloud = "AWS"
    most = 500

    def __init__(self, calls: Calls, listing: Listing) -> None:
        self._calls, self._listing = calls, listing

    def is_id(self, text: str) -> bool:
        return INSTANCE_ID.fullmatch(text) is not None

    def change(self, verb: Verb, instance_ids: Sequence[str]) -> Answers:
        """One id that EC2 does not know, or that is protected, makes it refuse the whole call: it is left out and the call
        made again. What AWS does not know any more has no answer."""
        left: list[str] = [*instance_ids]
        answers: Answers = {}
        while left:
            try:
                self._calls.call("ec2", _OPERATIONS[verb], doing(verb, left), InstanceIds=left)
                break
            except BadRequest as error:
                named = {match.group(0) for match in INSTANCE_ID.finditer(str(error.__cause__))} & set(left)
                code = code_behind(error)
                if code not in ("InvalidInstanceID.NotFound", "OperationNotPermitted") or not named:
                    raise
                answers |= self._left_out(verb, sorted(named), error, code)
                left = [i for i in left if i not in named]
        return answers | dict.fromkeys(left)

    def is_of_one(self, error: ProviderError) -> bool:
        if isinstance(error, NoCapacity | QuotaExceeded | BadRequest):
            return True
        return code_behind(error) == "IncorrectInstanceState"

    def _left_out(self, verb: Verb, named: Sequence[str], error: BadRequest, code: str) -> Answers:
        if code == "OperationNotPermitted":
            return dict.fromkeys(named, error)
        new = [i for i in named if self._listing.is_new(i)]
        text = f"{doing(verb, new)}: AWS does not know what it has just launched yet"
        return dict.fromkeys(new, UnknownOutcome(text))
