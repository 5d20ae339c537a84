"""`up`, as far as this machine is concerned: the cluster's files, its head, and the spec in force.

Every step can be repeated: an `up` that was interrupted anywhere is finished by the next one, or undone by `down`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clusterctl_runtime.files.private import write_private

from clusterctl.client.begun import note_begun, note_new
from clusterctl.client.down.take_down import is_half_down, take_down
from clusterctl.client.ended import note_of, revive
from clusterctl.client.head import process
from clusterctl.client.head.api import Api
from clusterctl.client.head.config import write_config_here
from clusterctl.client.place import refuse_to_move
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import SpecFile
from clusterctl.client.up.files import Mounts, listed
from clusterctl.client.up.review import review_spec
from clusterctl.core.errors import Refused
from clusterctl.provision.used_providers import note

HEAD_SECONDS = 1200.0


@dataclass(frozen=True)
class Started:
    """What `bring_up` found and did."""

    cluster: Cluster
    head: str  # "running" | "started"
    spec_changed: bool
    shortage: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # pool -> nodes it can have at most, and why


def bring_up(
    registry: Registry,
    source: SpecFile,
    tell: Callable[[str], None],
    confirm: Callable[[Api], None],
    patience: float = HEAD_SECONDS,
    *,
    trial: bool = False,
) -> Started:
    """Sees to it that a head runs and has this spec. `confirm(api)` is called before a running cluster gets a spec other
    than the one in force, and raises to stop. `patience`: seconds for a machine of the cloud for the head. `trial`: this is one
    of several places, and NotToBeHad is raised where it lacks a machine now. The caller holds the cluster's lock."""
    return _bring_up(registry, source, listed(source, registry.home, tell), tell, confirm, patience, trial)


def _bring_up(
    registry: Registry,
    source: SpecFile,
    mounts: Mounts,
    tell: Callable[[str], None],
    confirm: Callable[[Api], None],
    patience: float,
    trial: bool,
) -> Started:
    if source.name in registry.names() and is_half_down(registry.load(source.name)):
        tell(f"an earlier `down` of cluster {source.name} was interrupted: it is finished first")
        take_down(registry, registry.load(source.name), tell)
    refuse_to_move(registry, source)
    if source.name not in registry.names() or _text_of(registry.load(source.name).spec_file) != source.text:
        review_spec(source)
    cluster = _registered(registry, source, trying=trial)
    if note_of(cluster):
        tell(f"cluster {cluster.name} had ended itself: it is started again, with its jobs and their logs")
        revive(cluster)
    note(cluster.head_dir, source.spec)  # whatever becomes of its head, `down` knows where something of it may be
    place = source.spec.kind.head_place(source.spec.provider_settings)
    if place == "host":
        return _bring_up_remote(registry, cluster, source, mounts, tell, confirm)
    if place in ("instance", "pod"):
        return _bring_up_in_cloud(registry, cluster, source, mounts, tell, confirm, patience, trial)
    if cluster.head_is_remote:
        raise Refused(
            f"the head of cluster {cluster.name!r} runs elsewhere, the spec wants it on this machine: "
            f"`clusterctl down {cluster.name}` first"
        )
    note_begun(cluster)
    if process.answers(cluster):
        with Api.of(cluster) as api:
            return Started(cluster, "running", _put_spec(api, cluster, source, mounts, confirm))
    if process.is_out_of_reach(cluster):
        process.stop(cluster)
    if process.supervisor_pid(cluster):
        tell(f"the head of cluster {cluster.name} is being started again")
        process.start(cluster)
        with Api.of(cluster) as api:
            return Started(cluster, "running", _put_spec(api, cluster, source, mounts, confirm))
    changed = _text_of(cluster.spec_file) != source.text
    write_files(cluster, source)
    tell(f"starting the head of cluster {cluster.name}")
    process.start(cluster)
    if mounts:
        tell(f"sending {len(mounts)} of the spec's files to the head")  # its nodes boot meanwhile
        with Api.of(cluster) as api:
            _put_spec(api, cluster, source, mounts, lambda _: None)
    return Started(cluster, "started", changed)


def _registered(registry: Registry, source: SpecFile, *, trying: bool) -> Cluster:
    is_new = source.name not in registry.names()
    cluster = registry.create(
        source.name,
        provider=source.spec.provider_name,
        engine="ray" if source.spec.ray else "none",
        spec_path=str(source.path.absolute()),
        place=source.place,
        trying=trying,
    )
    if is_new:
        note_new(cluster)
    return cluster


def _bring_up_remote(
    registry: Registry,
    cluster: Cluster,
    source: SpecFile,
    mounts: Mounts,
    tell: Callable[[str], None],
    confirm: Callable[[Api], None],
) -> Started:
    """The same with a head on a machine reached by SSH. Hosts that cannot be used are named, and counted where a pool's
    min needs them."""
    from clusterctl.client.up.hosts import Remote

    remote = Remote(registry, cluster, source, tell)
    was_running, troubles = remote.is_in_place(), {}
    if not was_running:
        troubles = {one.id: str(one.trouble) for one in remote.bring_up() if one.trouble is not None}
    changed = _hand_spec(cluster, source, mounts, confirm, has_it=remote.new_head)
    return Started(cluster, "running" if was_running else "started", changed, remote.shortage(troubles))


def _bring_up_in_cloud(
    registry: Registry,
    cluster: Cluster,
    source: SpecFile,
    mounts: Mounts,
    tell: Callable[[str], None],
    confirm: Callable[[Api], None],
    patience: float,
    trial: bool,
) -> Started:
    """The same with a head on an instance of the cluster's cloud, or in a pod."""
    from clusterctl.client.up.cloud import CloudHead

    if process.supervisor_pid(cluster):
        raise Refused(
            f"the head of cluster {cluster.name!r} runs on this machine, the spec wants it elsewhere: "
            f"`clusterctl down {cluster.name}` first"
        )
    head = CloudHead(registry, cluster, source, tell, patience, trial=trial)
    was_running = head.is_in_place()
    if not was_running:
        head.bring_up()
    changed = _hand_spec(cluster, source, mounts, confirm, has_it=head.new_head)
    return Started(cluster, "running" if was_running else "started", changed)


def _hand_spec(
    cluster: Cluster, source: SpecFile, mounts: Mounts, confirm: Callable[[Api], None], *, has_it: bool
) -> bool:
    """Whether the spec in force is another now. `has_it`: the head has just started from this one, and lacks its files only."""
    if has_it and not mounts:
        write_private(cluster.spec_file, source.text)
        return True
    with Api.of(cluster) as api:
        return _put_spec(api, cluster, source, mounts, confirm)


def _put_spec(api: Api, cluster: Cluster, source: SpecFile, mounts: Mounts, confirm: Callable[[Api], None]) -> bool:
    if _text_of(cluster.spec_file) != source.text:
        confirm(api)
    body = {"yaml": source.text, "files": mounts.send(api)}
    changed = bool(api.put("/api/v1/spec", body).get("changed"))
    # After the head took it: an interrupted `up` then asks again instead of believing that it was done.
    if _text_of(cluster.spec_file) != source.text:
        write_private(cluster.spec_file, source.text)
    return changed


def write_files(cluster: Cluster, source: SpecFile) -> None:
    """The files that a head on this machine starts from. The token stays as it is once minted."""
    write_config_here(cluster, source.spec, source.text)
    write_private(cluster.spec_file, source.text)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
