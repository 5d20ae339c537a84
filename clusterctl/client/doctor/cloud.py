"""What `doctor` asks a cloud, where this machine uses one: whom it knows us as, and each permission by name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clusterctl.client.down.places import has_aws
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec

Check = tuple[str, bool, str]
_INSTALL = {
    "aws": "install the AWS command line (https://docs.aws.amazon.com/cli/)",
    "session-manager-plugin": "install the Session Manager plugin of the AWS command line",
}
_PROGRAMS = {"ssm": ("aws", "session-manager-plugin"), "instance-connect": ("aws",)}


def aws_checks(registry: Registry, spec: ClusterSpec | None = None) -> list[Check]:
    """(what was checked, ok, what to do): for `spec`, else for the clusters known here; empty where nothing says that AWS is
    used."""
    if spec is not None:
        return _of(spec.provider_settings, spec) if spec.provider_name == "aws" else []
    found = [check for settings in _settings(registry) for check in _of(settings)]
    return list(dict.fromkeys(found))


def missing_programs(reach: str) -> list[tuple[str, str]]:
    """(program, what to do) of those that this way to the head's machine needs, and that are not on PATH."""
    return [(name, _INSTALL[name]) for name in _PROGRAMS.get(reach, ()) if shutil.which(name) is None]


def _of(settings: Mapping[str, Any], spec: ClusterSpec | None = None) -> list[Check]:
    from clusterctl_providers import ProviderUnavailable, make_provider
    from clusterctl_providers.base import HasDoctor, HasDoctorFor, PoolRequest, ProviderContext

    from clusterctl.spec.to_core import pool_requests

    reach = str(settings.get("reach") or "")
    programs = [(f"program {name} for `reach: {reach}`", False, fix) for name, fix in missing_programs(reach)]
    try:
        provider = make_provider("aws", ProviderContext("", "", "", settings))
    except (ProviderUnavailable, ClusterctlError) as error:
        return [*programs, ("way to use AWS", False, str(error))]
    try:
        if spec is not None and isinstance(provider, HasDoctorFor):
            pools = [PoolRequest(name, pool) for name, pool in pool_requests(spec).items()]
            return [*programs, *provider.doctor_for(pools)]
        return [*programs, *(provider.doctor() if isinstance(provider, HasDoctor) else [])]
    finally:
        provider.close()


def _settings(registry: Registry) -> list[Mapping[str, Any]]:
    """Those of the clusters known here, else none in particular where the environment has credentials."""
    found: list[Mapping[str, Any]] = []
    for cluster in registry.all():
        spec = cluster.read_config().get("spec") or {}
        provider = spec.get("provider")
        if isinstance(provider, dict) and provider.get("aws") is not None:
            found += [provider["aws"]] if provider["aws"] not in found else []
    return found or ([{}] if has_aws() else [])
