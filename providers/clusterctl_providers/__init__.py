"""Providers by name, imported only when asked for: no cloud SDK loads for a local cluster."""

from __future__ import annotations

import importlib
from typing import cast

from clusterctl_providers.base import Provider, ProviderContext

# name -> (module, class, extra that brings its libraries)
PROVIDERS: dict[str, tuple[str, str, str]] = {
    "local": ("clusterctl_providers.local.provider", "LocalProvider", ""),
    "fake": ("clusterctl_providers.fake.provider", "FakeProvider", ""),
    "docker": ("clusterctl_providers.docker.provider", "DockerProvider", "docker"),
    "ssh": ("clusterctl_providers.ssh.provider", "SshProvider", "ssh"),
    "aws": ("clusterctl_providers.aws.provider", "AwsProvider", "aws"),
}


class ProviderUnavailable(LookupError):
    """No such provider in this version, or its libraries are not installed; the message says the fix."""


def make_provider(name: str, context: ProviderContext) -> Provider:
    """Imports and builds the provider `name`; raises ProviderUnavailable with the fix."""
    if name not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise ProviderUnavailable(f"provider {name!r} does not work in this version of clusterctl (it has: {known})")
    module_name, class_name, extra = PROVIDERS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("clusterctl"):
            raise
        raise ProviderUnavailable(
            f"provider {name!r} needs {error.name!r}, which is not installed: pip install 'clusterctl[{extra}]'"
        ) from error
    return cast(Provider, getattr(module, class_name)(context))
