"""Rows of `doctor` for any cloud: each permission by its own answer, and nothing held against an account that is only nice."""

from __future__ import annotations

import pytest
from clusterctl_providers.cloud.doctor import examine, optional_row, permission_rows, tried_row

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, ProviderError, Throttled, UnknownOutcome


def raiser(error: ProviderError | None) -> object:
    def call() -> None:
        if error:
            raise error

    return call


def test_where_nobody_knows_us_nothing_else_is_asked() -> None:
    def who() -> str:
        raise AuthFailed("the credentials have expired")

    asked: list[str] = []
    rows = examine("Acme", who, lambda: asked.append("x") or [])  # type: ignore[func-returns-value]
    assert rows == [("credentials that Acme accepts", False, "the credentials have expired")] and asked == []


def test_the_parts_come_in_their_order_after_who_we_are() -> None:
    rows = examine("Acme", lambda: "me in north", lambda: [("a", True, "")], lambda: [("b", False, "do it")])
    assert [what for what, _, _ in rows] == ["Acme knows us as me in north", "a", "b"]


def test_each_permission_is_a_row_by_name_and_what_is_lacking_says_what_to_do() -> None:
    assert permission_rows({"b.get": False, "a.get": True}, lambda action: f"grant {action}") == [
        ("permission a.get", True, ""),
        ("permission b.get", False, "grant b.get"),
    ]


@pytest.mark.parametrize(
    ("error", "allowed"),
    [
        (None, True),
        (BadRequest("no such instance"), True),  # whoever may not is told that first
        (NoCapacity("none"), True),
        (AuthFailed("may not"), False),
        (Throttled("busy"), False),
        (UnknownOutcome("cut"), False),
        (UnknownOutcome("it would have been done"), True),
    ],
)
def test_only_a_refusal_for_want_of_permission_or_no_answer_is_a_failure(
    error: ProviderError | None, allowed: bool
) -> None:
    row = tried_row("vm.delete", raiser(error), lambda found: "would have" in str(found))  # type: ignore[arg-type]
    assert row == ("permission vm.delete", allowed, "" if allowed else str(error))


def test_what_is_only_helpful_is_told_and_is_no_failure() -> None:
    assert optional_row("prices", raiser(None), "old ones are used") == ("prices", True, "")  # type: ignore[arg-type]
    row = optional_row("prices", raiser(AuthFailed("may not")), "old ones are used")  # type: ignore[arg-type]
    assert row == ("prices: not to be had, old ones are used (may not)", True, "")
