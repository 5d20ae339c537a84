"""A provider around another one, which loses nothing of the contract on the way.

A subclass says what it does otherwise. All else of `base.Provider`, and of every ability that the provider inside has, is
handed through because the contract names it: a member that the contract gets one day is handed through as well. What a
subclass changes of an ability is there only where the provider inside has that ability, so `isinstance` is true of the wrapper
exactly where it is true of what is in it.
"""

from __future__ import annotations

import inspect
import types
from functools import lru_cache
from typing import Any, TypeVar

from clusterctl_providers import base
from clusterctl_providers.base import Provider

Made = TypeVar("Made", bound="Wrapper")


def members(contract: type) -> frozenset[str]:
    """The names that a Protocol asks for."""
    named = (*vars(contract), *inspect.get_annotations(contract))
    return frozenset(name for name in named if not name.startswith("_"))


ABILITIES: tuple[type, ...] = tuple(
    kind for name, kind in vars(base).items() if name.startswith("Has") and isinstance(kind, type)
)


class Wrapper(Provider):
    """`inner` is the provider that does the work. Subclasses are made with `around`: what they do not say is abstract."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner

    @classmethod
    def around(cls: type[Made], inner: Provider, *arguments: Any) -> Made:
        """`arguments`: of the subclass, after `inner`."""
        has = frozenset(ability for ability in ABILITIES if isinstance(inner, ability))
        return _completed(cls, has)(inner, *arguments)


@lru_cache(maxsize=64)
def _completed(cls: type[Made], has: frozenset[type]) -> type[Made]:
    """`cls` with all that it does not say itself of the contract and of the abilities `has`, and without what it says of
    others."""
    given = members(Provider).union(*(members(ability) for ability in has))
    every = given.union(*(members(ability) for ability in ABILITIES))
    changed = frozenset(name for part in cls.__mro__[: cls.__mro__.index(Wrapper)] for name in vars(part))
    body: dict[str, Any] = {name: _handed_through(name) for name in given - changed}
    body |= dict.fromkeys((every - given) & changed)  # None: `isinstance` takes such a method for one that is not there
    return types.new_class(cls.__name__, (cls,), exec_body=lambda namespace: namespace.update(body))


def _handed_through(name: str) -> property:
    return property(lambda wrapper: getattr(wrapper.inner, name))
