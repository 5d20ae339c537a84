"""How a cloud is called: once what changes something, a few times what reads, page by page what is long."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clusterctl_providers.cloud.bucket import Bucket
from clusterctl_providers.cloud.calls import call_once, pages, read

from clusterctl.core.errors import AuthFailed, NoCapacity, ProviderError, Throttled, UnknownOutcome
from tests.any_cloud.clock import Clock


class Upset(Exception):
    """What the SDK of this test raises."""


def script(*answers: object) -> Callable[[], object]:
    left = list(answers)

    def call() -> object:
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return call


def test_what_an_sdk_raises_becomes_a_typed_error_with_the_sdks_own_behind_it() -> None:
    clock = Clock()
    bucket = Bucket("Acme", 5.0, 5, clock, clock.pause)
    upset = Upset("full")
    with pytest.raises(NoCapacity, match="no room") as told:
        call_once(bucket, script(upset), lambda error: NoCapacity(f"no room: {error}"))
    assert told.value.__cause__ is upset


def test_an_error_that_is_typed_already_is_not_explained_again() -> None:
    def explain(error: Exception) -> ProviderError:
        raise AssertionError(error)

    with pytest.raises(AuthFailed, match="no profile"):
        call_once(Bucket("Acme", 5.0), script(AuthFailed("no profile")), explain)


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 1.0), (12.0, 12.0)])
def test_too_many_closes_the_bucket_for_all_and_the_error_says_for_how_long(asked: float, pause: float) -> None:
    clock = Clock()
    bucket = Bucket("Acme", 5.0, 5, clock, clock.pause)
    with pytest.raises(Throttled) as told:
        call_once(bucket, script(Upset()), lambda _: Throttled("slower", retry_after=asked))
    assert told.value.retry_after == pause
    with pytest.raises(Throttled, match="held back"):
        bucket.take(patience=pause - 0.1)


@pytest.mark.parametrize(
    ("answers", "found", "pauses"),
    [
        (["now"], "now", []),
        ([UnknownOutcome("cut"), "later"], "later", [0.2]),
        ([UnknownOutcome("cut"), UnknownOutcome("cut"), UnknownOutcome("cut"), "last"], "last", [0.2, 0.4, 0.6]),
        ([Throttled("busy", retry_after=1.5), "later"], "later", [1.5]),
        ([Throttled("busy", retry_after=600.0), "later"], "later", [4.0]),  # a reader does not sleep for minutes
    ],
)
def test_a_read_is_repeated_a_few_times(answers: list[object], found: str, pauses: list[float]) -> None:
    clock = Clock()
    assert read(script(*answers), clock.pause) == found
    assert clock.pauses == pytest.approx(pauses)


@pytest.mark.parametrize("error", [UnknownOutcome("cut"), Throttled("busy", retry_after=0.1)])
def test_a_read_that_goes_on_failing_tells_the_last_error_without_one_more_pause(error: ProviderError) -> None:
    clock = Clock()
    with pytest.raises(type(error)) as told:
        read(script(*[error] * 4), clock.pause)
    assert told.value is error and len(clock.pauses) == 3


@pytest.mark.parametrize("error", [AuthFailed("no"), NoCapacity("none")])
def test_what_trying_again_does_not_mend_is_told_at_once(error: ProviderError) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        read(script(error), clock.pause)
    assert clock.pauses == []


def test_pages_come_in_turn_and_what_came_before_one_that_breaks_was_had() -> None:
    book: dict[str, tuple[str, str]] = {"": ("first", "a"), "a": ("second", "b")}

    def page(token: str) -> tuple[str, str]:
        if token not in book:
            raise UnknownOutcome(f"no page {token}")
        return book[token]

    had: list[str] = []
    with pytest.raises(UnknownOutcome, match="no page b"):
        for found in pages(page, "listing", "Acme"):
            had.append(found)
    assert had == ["first", "second"]


def test_a_list_that_goes_round_in_a_circle_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(ProviderError, match="listing: Acme answered the same page twice"):
        list(pages(lambda token: ("page", "a"), "listing", "Acme"))
