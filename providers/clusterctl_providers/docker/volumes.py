"""Volumes of the engine that nodes have mounted: a cluster's own, which may survive it, and file systems that the engine mounts.

A volume that is kept bears the cluster's name and this user, and no uid: the next cluster of that name has it again. All others
bear the uid and go with the cluster. Nothing removes a kept one but its owner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from docker.errors import APIError, NotFound
from docker.types import Mount

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.base import TAG_CLUSTER, TAG_MAKER, TAG_UID, KeptVolume, ProviderContext
from clusterctl_providers.docker.client import TROUBLE, Engine, translated
from clusterctl_providers.this_machine import maker

LABEL_VOLUME = "clusterctl-volume"  # its name in the spec
LABEL_KEPT = "clusterctl-kept"


def mounts_of(engine: Engine, context: ProviderContext, spec: Mapping[str, Any]) -> list[Mount]:
    """What a container of that pool gets; makes the volumes that are not there yet. Raises docker's errors, and BadRequest for
    a volume that is somebody else's."""
    return [_mount(engine, context, told) for told in spec.get("mounts") or ()]


def _mount(engine: Engine, context: ProviderContext, told: Mapping[str, Any]) -> Mount:
    name, labels, driver = _wanted(context, told)
    _ensure(engine, name, labels, driver)
    return Mount(target=str(told["to"]), source=name, type="volume", read_only=bool(told["read_only"]))


def _wanted(context: ProviderContext, told: Mapping[str, Any]) -> tuple[str, dict[str, str], dict[str, str]]:
    """(name, labels, options of the local driver)."""
    ours = {TAG_CLUSTER: context.cluster, TAG_MAKER: maker()}
    short = context.uid.replace("-", "")[:12]
    if volume := told.get("volume"):
        if told["keep"]:
            return f"clusterctl-{context.cluster}-{volume}", {**ours, LABEL_VOLUME: volume, LABEL_KEPT: "true"}, {}
        return (
            f"clusterctl-{context.cluster}-{volume}-{short}",
            {**ours, LABEL_VOLUME: volume, TAG_UID: context.uid},
            {},
        )
    found = told["file_system"]
    host, _, path = str(found["source"]).rpartition(":/")
    driver = {"type": "nfs", "device": f":/{path}", "o": ",".join([f"addr={host.strip('[]')}", *found["options"]])}
    digest = hashlib.sha256(json.dumps(driver, sort_keys=True).encode()).hexdigest()[:8]
    return f"clusterctl-{context.cluster}-nfs-{digest}-{short}", {**ours, TAG_UID: context.uid}, driver


def _ensure(engine: Engine, name: str, labels: Mapping[str, str], driver: Mapping[str, str]) -> None:
    """Idempotent. The engine answers with the one that is there, whatever labels it has: those are compared."""
    found = engine.api.create_volume(name, driver="local", driver_opts=dict(driver) or None, labels=dict(labels))
    there = found.get("Labels") or {}
    if any(there.get(key) != value for key, value in labels.items()):
        raise BadRequest(
            f"a volume named {name} is not this cluster's (it is of {there.get(TAG_MAKER) or 'somebody else'}): choose another "
            "name of the cluster or the volume"
        )


def remove_volumes(engine: Engine, context: ProviderContext) -> None:
    """Those that go with the cluster. Raises ProviderError where one is in use."""
    try:
        for name in _named(engine, f"{TAG_UID}={context.uid}"):
            try:
                engine.api.remove_volume(name)
            except NotFound:
                continue
            except APIError as error:
                if error.status_code == 409:
                    raise ProviderError(f"volume {name} is used by a container that is not this cluster's") from error
                raise
    except TROUBLE as error:
        raise translated(error, f"removing the volumes of cluster {context.cluster}") from error


def kept_volumes(engine: Engine) -> list[KeptVolume]:
    """Of all clusters that this user had on the engine."""
    try:
        rows = engine.api.volumes(filters={"label": [f"{LABEL_KEPT}=true", f"{TAG_MAKER}={maker()}"]})["Volumes"] or []
    except TROUBLE as error:
        raise translated(error, "looking for volumes on the Docker engine") from error
    return [
        KeptVolume(
            row["Labels"][TAG_CLUSTER], row["Labels"][LABEL_VOLUME], row["Name"], f"docker volume rm {row['Name']}"
        )
        for row in sorted(rows, key=lambda row: str(row["Name"]))
    ]


def _named(engine: Engine, label: str) -> list[str]:
    return sorted(row["Name"] for row in engine.api.volumes(filters={"label": label})["Volumes"] or [])
