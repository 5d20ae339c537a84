"""What a change of a key does to nodes that exist, and digests of a spec that show whether anything changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.parts import Head
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kind import Kind

Effect = Literal["in-place", "replace"]

# replace: a node keeps what it was made with, a change needs a new one. in-place: the head applies it while nodes live.
POOL_EFFECTS: dict[str, Effect] = {
    "name": "replace",
    "min": "in-place",
    "max": "in-place",
    "instances": "in-place",  # rules what is bought from now on
    "gpu": "replace",
    "resources": "replace",
    "reservation": "in-place",
    "market": "in-place",
    "zones": "in-place",
    "image": "replace",
    "disk": "replace",
    "node_selector": "replace",
    "tolerations": "replace",
    "hosts": "in-place",
    "provider": "replace",
    "network": "replace",  # whether the engine runs there
    "idle_timeout": "in-place",
    "keep_stopped": "in-place",
    "orphan_timeout": "replace",  # the node was told when it was made, and obeys when nobody can tell it anew
    "labels": "replace",  # the engine fixes labels when a node joins
    "setup": "in-place",  # runs on nodes that live, too
    "mounts": "replace",  # nothing is mounted or taken away below work that runs
    "env": "in-place",
    "limits": "in-place",
    "one_zone": "in-place",
}
HEAD_EFFECTS: dict[str, Effect] = {
    "instance": "replace",
    "disk": "replace",
    "resources": "replace",
    "zone": "replace",
    "image": "replace",
    "node_selector": "replace",
    "tolerations": "replace",
    "host": "replace",
    "slots": "in-place",
    "public_port": "in-place",
    "credentials": "in-place",
}
CLUSTER_EFFECTS: dict[str, Effect] = {
    "cluster": "replace",
    "provider": "replace",
    "provider_order": "in-place",  # of no cluster that is anywhere
    "auth": "in-place",
    "head": "in-place",  # key by key in HEAD_EFFECTS
    "engine": "replace",
    "pools": "in-place",  # key by key in POOL_EFFECTS
    "setup": "in-place",
    "files": "in-place",
    "mounts": "replace",
    "env": "in-place",
    "limits": "in-place",
    "queue": "in-place",
    "services": "in-place",
    "lifetime": "in-place",
}


def spec_hash(spec: ClusterSpec) -> str:
    """Changes when anything in the spec changes. Keys written with their default value make no difference."""
    return _digest(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def pool_hash(spec: ClusterSpec, pool: Pool) -> str:
    """Changes when a node of `pool` made before has to be replaced."""
    fields = _hashed(pool, POOL_EFFECTS)
    if (kind := spec.kind_of(pool)) is not spec.kind:
        fields["provider"] = {kind.name: _lasting(kind, spec.settings_of(pool))}
    return _digest([_hashed(spec, CLUSTER_EFFECTS), fields])


def head_hash(spec: ClusterSpec) -> str:
    """Changes when the head node has to be replaced."""
    return _digest([_hashed(spec, CLUSTER_EFFECTS), _hashed(spec.head, HEAD_EFFECTS)])


def _hashed(model: ClusterSpec | Pool | Head, effects: dict[str, Effect]) -> dict[str, Any]:
    names = {name for name, effect in effects.items() if effect == "replace"}
    fields = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=names)
    if isinstance(model, ClusterSpec):  # `local` and `{local: {}}` are one provider
        fields["provider"] = {model.provider_name: _lasting(model.kind, model.provider_settings)}
    return fields


def _lasting(kind: Kind, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a node keeps as it was made with."""
    return {key: value for key, value in settings.items() if kind.changes.get(key) != "in-place"}


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
