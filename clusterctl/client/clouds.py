"""What `doctor` asks a cloud, where this machine uses one: whom it knows us as, and each permission by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterctl.client.registry import Registry, read_json
from clusterctl.core.errors import ClusterctlError

_SIGNS_OF_AWS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")


def aws_checks(registry: Registry) -> list[tuple[str, bool, str]]:
    """(what was checked, ok, what to do); empty where nothing here says that AWS is used."""
    settings = _settings(registry)
    if settings is None:
        return []
    from clusterctl_providers import ProviderUnavailable, make_provider
    from clusterctl_providers.base import HasDoctor, ProviderContext

    try:
        provider = make_provider("aws", ProviderContext("", "", "", settings))
    except (ProviderUnavailable, ClusterctlError) as error:
        return [("AWS can be used", False, str(error))]
    try:
        return provider.doctor() if isinstance(provider, HasDoctor) else []
    finally:
        provider.close()


def _settings(registry: Registry) -> Mapping[str, Any] | None:
    """Those of a cluster known here, else none in particular where the environment has credentials."""
    for cluster in registry.all():
        spec = read_json(cluster.head_dir / "config.json").get("spec") or {}
        provider = spec.get("provider")
        if isinstance(provider, dict) and provider.get("aws") is not None:
            return provider["aws"]
    told = any(os.environ.get(name) for name in _SIGNS_OF_AWS) or (Path.home() / ".aws").is_dir()
    return {} if told else None
