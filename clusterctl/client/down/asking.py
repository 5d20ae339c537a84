"""Whether a cluster whose head does not answer has ended itself: asked of the host where it ran, or of its cloud."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.down.take_down import providers_of
from clusterctl.client.ended import FILE, HEAD_PLACE, note_of
from clusterctl.client.nodes.machines import head_machine, open_hosts
from clusterctl.client.registry import Cluster, read_json
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.lookup import living
from clusterctl.spec.lifetime import billed_at_rest, rules_of
from clusterctl.spec.load import parse_spec

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec


def ask(cluster: Cluster) -> dict[str, Any]:
    """The note of a cluster that has ended itself, {} for any other (see ended.note_of). Where its head ran elsewhere and it may
    end itself, the host or the provider is asked, which may be long in coming."""
    found = note_of(cluster)
    if found or not cluster.head_is_remote:
        return found
    spec = _spec_of(cluster)
    if spec is None or not rules_of(spec):
        return {}
    try:
        found = _asked(cluster) if cluster.on_hosts else _found_gone(cluster, spec)
    except ClusterctlError:
        return {}
    if found:
        write_private(cluster.directory / FILE, json.dumps(found))
    return found


def _asked(cluster: Cluster) -> dict[str, Any]:
    connection = open_hosts(cluster.directory, lambda _: None).connect(head_machine(cluster.directory))
    try:
        return dict(connection.ask({"do": "ended"}).get("ended") or {})
    finally:
        connection.close()


def _found_gone(cluster: Cluster, spec: ClusterSpec) -> dict[str, Any]:
    """The note of a cluster whose head's instance was there once and is not any more, nor is anything else that runs; {} where
    that cannot be said. No list alone is believed: the instance is asked for by its id."""
    head = str(read_json(cluster.directory / HEAD_PLACE).get("instance") or "")
    config = cluster.read_config()
    if not head or not config:
        return {}
    providers = list(providers_of(cluster, config["spec"]).values())
    try:
        scopes = [scope for provider in providers for scope in provider.list()]
        shown = [i for s in scopes for i in s.instances if i.uid == cluster.uid and i.state != "terminated"]
        if shown or not all(scope.complete for scope in scopes) or living(providers[0], cluster.uid, [head]):
            return {}
        disk = providers[0].head_disk()
    finally:
        for provider in providers:
            provider.close()
    told = {"text": f"its spec says that {rules_of(spec)}", "billed": billed_at_rest(spec) if disk else ""}
    return {"at": time.time(), "rule": "", "cost": None, "jobs": {}, "disk": disk.id if disk else "", **told}


def _spec_of(cluster: Cluster) -> ClusterSpec | None:
    """The one that was last put in force from here."""
    try:
        return parse_spec(cluster.spec_file.read_text(encoding="utf-8"), str(cluster.spec_file))
    except (OSError, ClusterctlError):
        return None
