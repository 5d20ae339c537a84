"""Whoever makes or removes the accounts of a cluster may die at every call, before or after it is done: the next one finishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.rights.identity import USER

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT
from tests.gcp.parts import Parts
from tests.gcp.test_identity import HEAD_ROLE, accounts, identity, member

WORKERS = {"worker_service_account": "auto"}


class Died(BaseException):
    """No `except Exception` lives on after it."""


def die_at(patch: pytest.MonkeyPatch, position: int, *, done: bool) -> None:
    """At the call of that number, with its effect or without."""
    real, count = Calls.change, iter(range(1_000_000))

    def change(calls: Calls, *given: Any, **more: Any) -> dict[str, Any]:
        dies = next(count) == position
        if dies and not done:
            raise Died
        try:
            return real(calls, *given, **more)
        finally:
            if dies:
                raise Died

    patch.setattr(Calls, "change", change)


def deaths(act: Callable[[], object], finish: Callable[[], None], *, done: bool) -> int:
    """Of `act` at each of its calls, `finish` after each; how many it can die."""
    for position in range(100):
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, position, done=done)
            try:
                act()
            except Died:
                pass
            else:
                return position
        finish()
    raise AssertionError("it never came through")


@pytest.mark.parametrize("done", [False, True])
def test_accounts_are_whole_after_a_death_at_every_call(cloud: GcpCloud, done: bool) -> None:
    cluster = [Parts(cloud)]

    def act() -> None:
        cluster[0] = Parts(cloud)
        identity(cluster[0], **WORKERS).renew()

    def finish() -> None:
        ours = identity(cluster[0], **WORKERS)
        ours.renew()
        head, worker = ours.head_account(), ours.worker_account()
        assert accounts(cloud) == sorted(email.partition("@")[0] for email in (head, worker))
        assert cloud.rights.members(HEAD_ROLE) == [member(head)]
        assert cloud.rights.members(USER, f"projects/{PROJECT}/serviceAccounts/{worker}") == [member(head)]
        assert identity(cluster[0], **WORKERS).sweep() == [] and cloud.leftovers() == []

    assert deaths(act, finish, done=done) > 8


@pytest.mark.parametrize("done", [False, True])
def test_nothing_is_left_after_a_removal_that_died_at_any_call(cloud: GcpCloud, done: bool) -> None:
    cluster = Parts(cloud)
    identity(cluster, **WORKERS).renew()

    def finish() -> None:
        assert identity(cluster, **WORKERS).sweep() == [] and cloud.leftovers() == []
        assert cloud.rights.members(HEAD_ROLE) == []
        identity(cluster, **WORKERS).renew()

    assert deaths(lambda: identity(cluster, **WORKERS).sweep(), finish, done=done) > 4
    assert cloud.leftovers() == []
