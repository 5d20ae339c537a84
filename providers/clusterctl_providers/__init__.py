"""Providers by name, imported only when asked for: no cloud SDK loads for a local cluster."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import metadata
from importlib.util import find_spec
from typing import cast

from clusterctl_providers.base import Provider, ProviderContext


class ProviderUnavailable(LookupError):
    """No such provider in this version, or its libraries are not installed; the message says the fix."""


def provider_names() -> list[str]:
    """Those that there are: packages here with a module `provider`. None is imported."""
    packages = (found.name for found in pkgutil.iter_modules(__path__) if found.ispkg)
    return [name for name in packages if find_spec(f"{__name__}.{name}.provider") is not None]


def make_provider(name: str, context: ProviderContext) -> Provider:
    """Imports and builds the provider `name`, which is `NameProvider` of `clusterctl_providers.name.provider`, and whose
    libraries come with our extra of that name. Raises ProviderUnavailable with the fix."""
    names = provider_names()
    if name not in names:
        known = ", ".join(names)
        raise ProviderUnavailable(f"provider {name!r} does not work in this version of clusterctl (it has: {known})")
    try:
        module = importlib.import_module(f"{__name__}.{name}.provider")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("clusterctl") or not _is_extra(name):
            raise
        raise ProviderUnavailable(
            f"provider {name!r} needs {error.name!r}, which is not installed: pip install 'clusterctl[{name}]'"
        ) from error
    return cast(Provider, getattr(module, f"{name.capitalize()}Provider")(context))


def _is_extra(name: str) -> bool:
    return name in (metadata.metadata("clusterctl").get_all("Provides-Extra") or [])
