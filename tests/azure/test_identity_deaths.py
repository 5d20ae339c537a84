"""Whoever makes or removes the identities of a cluster may die at every call, before or after it is done: the next one
finishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clusterctl_providers.azure.calls import Answer, Calls

from tests.azure.parts import Parts
from tests.azure.test_identity import HEAD, LOOKUP, group_of, identity, mine, roles
from tests.cloud.azure.assignments import ROOT
from tests.cloud.azure.cloud import AzureCloud

WORKERS = {"worker_identity": "auto"}


class Died(BaseException):
    """No `except Exception` lives on after it."""


def die_at(patch: pytest.MonkeyPatch, position: int, *, done: bool) -> None:
    """At the call of that number, with its effect or without."""
    real, count = Calls._call, iter(range(1_000_000))

    def call(calls: Calls, *given: Any) -> Answer:
        dies = next(count) == position
        if dies and not done:
            raise Died
        try:
            return real(calls, *given)
        finally:
            if dies:
                raise Died

    patch.setattr(Calls, "_call", call)


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
def test_identities_are_whole_after_a_death_at_every_call(cloud: AzureCloud, done: bool) -> None:
    cluster = [Parts(cloud)]

    def act() -> None:
        cluster[0] = Parts(cloud)
        identity(cluster[0], **WORKERS).renew()

    def finish() -> None:
        ours = identity(cluster[0], **WORKERS)
        ours.renew()
        head, worker = ours.head_identity(), ours.worker_identity()
        assert set(cloud.tokens.identities) == {head.lower(), worker.lower()}
        assert roles(cloud, head) == {group_of(cluster[0]): HEAD, ROOT: LOOKUP} and roles(cloud, worker) == {}
        assert identity(cluster[0], **WORKERS).sweep() == []
        assert cloud.tokens.identities == {} and cloud.rights.orphans() == []

    assert deaths(act, finish, done=done) > 8


@pytest.mark.parametrize("done", [False, True])
def test_nothing_is_left_after_a_removal_that_died_at_any_call(cloud: AzureCloud, done: bool) -> None:
    cluster = Parts(cloud)
    elsewhere = {**WORKERS, "security_group": mine(cluster)}  # anything outside the group will do
    identity(cluster, **elsewhere).renew()

    def finish() -> None:
        assert identity(cluster, **elsewhere).sweep() == []
        assert [id_ for id_ in cloud.tokens.identities if cluster.uid[:8] in id_] == [] and cloud.rights.orphans() == []
        identity(cluster, **elsewhere).renew()

    assert deaths(lambda: identity(cluster, **elsewhere).sweep(), finish, done=done) > 4
    assert cloud.rights.orphans() == []
