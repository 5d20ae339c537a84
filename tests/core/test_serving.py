"""Versions of what is served, decided without a cluster: which of them Serve is to have, and what follows from what it tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusterctl.core.errors import NotFound, Refused
from clusterctl.core.serving import (
    DROPPED,
    FAILED,
    FORMER,
    KEPT,
    LIVE,
    Application,
    Told,
    Version,
    deploy,
    follow,
    roll_back,
    switched,
    wanted_of,
    without_leaving,
)

NOW = 1000.0


def content(word: str, route: str | None = "/chat") -> Version:
    return Version(0, {"import_path": word}, route, "", 0, NOW, NOW + 60)


def routes(application: Application) -> dict[str, str | None]:
    return {name: route for name, (_, route) in wanted_of(application).items()}


def answer(application: Application, **statuses: str) -> dict[str, Told]:
    """Serve has what was asked of it, running unless said otherwise (`v2="UNHEALTHY"`)."""
    return {
        name: Told(statuses.get(f"v{name.partition('~')[2]}", "RUNNING"), "why", route, route)
        for name, route in routes(application).items()
    }


def live(*words: str) -> Application:
    """After these versions, each of which has run."""
    application = Application("chat")
    for word in words:
        application = deploy(application, content(word))
        application = without_leaving(follow(application, answer(application), NOW))
    return application


def states(application: Application) -> list[str]:
    return [version.state for version in application.versions]


def test_the_first_version_has_the_route_at_once_and_a_later_one_when_it_is_healthy() -> None:
    assert routes(deploy(Application("chat"), content("a"))) == {"chat~1": "/chat"}
    rolling = deploy(live("a"), content("b"))
    assert routes(rolling) == {"chat~1": "/chat", "chat~2": "/chat~2"}
    assert follow(rolling, answer(rolling, v2="DEPLOYING"), NOW).live == live("a").live
    taken = follow(rolling, answer(rolling), NOW)
    assert routes(taken) == {"chat~1": "/chat~1", "chat~2": "/chat"}, "both still run, with their routes exchanged"
    assert not switched(taken, answer(rolling)) and switched(taken, answer(taken))
    assert routes(without_leaving(taken)) == {"chat~2": "/chat"}
    assert states(taken) == [FORMER, LIVE]


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
def test_a_version_that_fails_leaves_the_one_that_answers_as_it_is(status: str) -> None:
    rolling = deploy(live("a"), content("b"))
    failed = follow(rolling, answer(rolling, v2=status), NOW)
    assert routes(failed) == {"chat~1": "/chat"}
    assert states(failed) == [LIVE, FAILED] and "why" in failed.version(2).detail


def test_a_version_that_is_never_ready_is_given_up_when_its_time_is_over() -> None:
    rolling = deploy(live("a"), content("b"))
    told = answer(rolling, v2="DEPLOYING")
    assert follow(rolling, told, NOW + 59).rolling is not None
    given_up = follow(rolling, told, NOW + 60)
    assert states(given_up) == [LIVE, FAILED] and "60 s" in given_up.version(2).detail
    assert states(follow(rolling, {}, NOW + 60)) == [LIVE, FAILED], "also where Serve knows nothing of it"


def test_a_version_takes_over_only_where_its_own_route_is_in_force() -> None:
    rolling = deploy(live("a"), content("b"))
    told = answer(rolling)
    told["chat~2"] = replace(told["chat~2"], route=None)
    assert follow(rolling, told, NOW).rolling is not None


def test_a_newer_version_is_wanted_instead_of_one_that_is_on_its_way() -> None:
    twice = deploy(deploy(live("a"), content("b")), content("c"))
    assert states(twice) == [LIVE, DROPPED, "rolling"]
    assert routes(twice) == {"chat~1": "/chat", "chat~3": "/chat~3"}


def test_the_same_content_again_changes_nothing() -> None:
    rolling = deploy(live("a"), content("b"))
    assert deploy(rolling, content("b")) is rolling
    assert deploy(live("a"), content("a")) == live("a")


def test_a_rollback_goes_to_the_version_before_and_another_one_further_back() -> None:
    back = roll_back(live("a", "b", "c"), None, NOW, NOW + 60)
    assert back.rolling is not None and (back.rolling.number, back.rolling.of) == (4, 2)
    done = without_leaving(follow(back, answer(back), NOW))
    further = roll_back(done, None, NOW, NOW + 60)
    assert further.rolling is not None and further.rolling.of == 1


def test_a_rollback_of_what_is_on_its_way_only_drops_it() -> None:
    assert states(roll_back(deploy(live("a"), content("b")), None, NOW, NOW + 60)) == [LIVE, DROPPED]


def test_a_rollback_is_refused_where_nothing_ran_before() -> None:
    with pytest.raises(Refused, match="no version of 'chat' was live before version 1"):
        roll_back(live("a"), None, NOW, NOW + 60)
    rolling = deploy(live("a"), content("b"))
    failed = follow(rolling, answer(rolling, v2="DEPLOY_FAILED"), NOW)
    with pytest.raises(Refused, match="never ran"):
        roll_back(failed, 2, NOW, NOW + 60)
    with pytest.raises(NotFound, match="no version 7"):
        roll_back(failed, 7, NOW, NOW + 60)


def test_what_is_being_deleted_has_nothing_in_serve_and_takes_no_version() -> None:
    ended = replace(live("a"), ended=True)
    assert routes(ended) == {}
    with pytest.raises(Refused, match="being deleted"):
        deploy(ended, content("b"))


def test_old_versions_are_forgotten_but_never_those_in_use() -> None:
    application = live(*[f"v{n}" for n in range(KEPT + 5)])
    assert len(application.versions) == KEPT + 1
    assert application.live == application.versions[-1]


def test_one_without_http_has_no_route_anywhere() -> None:
    first = Application("chat")
    first = deploy(first, content("a", None))
    first = without_leaving(follow(first, answer(first), NOW))
    rolling = deploy(first, content("b", None))
    assert routes(rolling) == {"chat~1": None, "chat~2": None}
    assert states(follow(rolling, answer(rolling), NOW)) == [FORMER, LIVE]
