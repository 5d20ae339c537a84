"""A provider around another one loses nothing of the contract: no member, and no ability."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from clusterctl_providers import base
from clusterctl_providers.base import HasConsole, HasStop, PoolRequest, Provider
from clusterctl_providers.wrapper import ABILITIES, Wrapper, members

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Offer

EVERY: tuple[type, ...] = tuple(
    value for value in vars(base).values() if Protocol in getattr(value, "__bases__", ()) and isinstance(value, type)
)


ROOT = Path(__file__).parents[2]


class Plain(Wrapper):
    """Changes nothing."""


class Guard(Wrapper):
    """Changes a method of the contract, one of an ability, and has one of its own."""

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return self.inner.offers(pool)[:1]

    def start(self, instance_ids: Sequence[str]) -> list[ProviderError | None]:
        return [None for _ in instance_ids]

    def own(self) -> str:
        return "mine"


def stand_in(*abilities: type, **more: Any) -> Any:
    """A provider whose every member answers with its own name."""
    names = members(Provider).union(*(members(ability) for ability in abilities))
    answers = {name: (lambda self, *_, name=name: name) for name in names}  # type: ignore[misc]
    return type("StandIn", (), {**answers, **more})()


def test_the_contract_has_members_and_abilities_to_be_compared() -> None:
    assert set(EVERY) == {Provider, *ABILITIES} and len(ABILITIES) > 10
    assert {"name", "scopes", "list", "settle_seconds", "in_flight_seconds", "offers_last"} <= members(Provider)
    assert members(HasStop) == {"stop", "start"}


@pytest.mark.parametrize("kind", [Plain, Guard])
@pytest.mark.parametrize("ability", ABILITIES)
def test_a_wrapper_is_able_to_do_what_is_in_it_and_nothing_else(ability: type, kind: type[Wrapper]) -> None:
    for has in ([ability], [], [a for a in ABILITIES if a is not ability]):
        inner = stand_in(*has)
        wrapper = kind.around(inner)
        assert [a for a in ABILITIES if isinstance(wrapper, a)] == [a for a in ABILITIES if isinstance(inner, a)]
        assert isinstance(wrapper, Provider) and isinstance(wrapper, kind)


def test_a_wrapper_answers_every_member_as_what_is_in_it_does() -> None:
    wrapper = Plain.around(stand_in(*ABILITIES))
    for contract in EVERY:
        for name in members(contract):
            assert getattr(wrapper, name)() == name, (contract, name)


def test_what_changes_inside_is_seen_outside() -> None:
    inner = stand_in(offers_last=3600.0)
    wrapper = Plain.around(inner)
    assert wrapper.offers_last == 3600.0
    inner.offers_last = 0.0
    assert wrapper.offers_last == 0.0


def test_a_wrapper_does_otherwise_what_it_says_and_the_rest_as_before() -> None:
    inner = stand_in(HasStop, offers=lambda self, pool: ["cheap", "dear"])
    guard = Guard.around(inner)
    assert guard.offers(PoolRequest("cpu", {})) == ["cheap"] and guard.own() == "mine"
    assert isinstance(guard, HasStop) and not isinstance(guard, HasConsole)
    assert guard.start(["i-1"]) == [None] and guard.stop(["i-1"]) == "stop"
    assert not isinstance(Guard.around(stand_in()), HasStop), "what it changes of an ability gives it none"


def test_nobody_reads_a_member_of_the_contract_by_a_name_that_might_be_missing() -> None:
    """`getattr` with a default is how a member was lost that only some providers had."""
    names = frozenset().union(*(members(contract) for contract in EVERY))
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("clusterctl", "providers", "runtime")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr"
        if isinstance(node.args[1], ast.Constant) and node.args[1].value in names
    ]
    assert found == []
