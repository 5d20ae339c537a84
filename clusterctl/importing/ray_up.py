"""A cluster of `ray up`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clusterctl.importing.commands import setup_of
from clusterctl.importing.draft import Draft
from clusterctl.importing.paths import Moved
from clusterctl.importing.reading import At, Reader, Reasons, clean_name, duration, same
from clusterctl.spec.document import Document
from clusterctl.spec.providers.kind import Kind, RayUp
from clusterctl.spec.providers.registry import KINDS

KIND = "a cluster of `ray up`"
KEYS = (
    "cluster_name", "max_workers", "upscaling_speed", "idle_timeout_minutes", "provider", "auth", "docker", "head_node_type",
    "file_mounts", "cluster_synced_files", "file_mounts_sync_continuously", "rsync_exclude", "rsync_filter", "metadata",
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands", "no_restart", "available_node_types",
)  # fmt: skip
TYPE_KEYS = (
    "node_config", "min_workers", "max_workers", "idle_timeout_s", "priority", "resources", "labels",
    "initialization_commands", "worker_setup_commands", "docker",
)  # fmt: skip
AUTH_KEYS = ("ssh_user", "ssh_public_key", "ssh_private_key", "ssh_proxy_command", "ssh_proxy_use_node_id")
_MOST = 2  # workers, where Ray's launcher is not told
_RAY_STARTS = ("clusterctl starts Ray itself", "options of Ray are under `engine: {ray: ...}`")
_OF_DOCKER = ("nodes are machines, and their programs run on them", "install with `setup` what the image has")
_DISK = ("the disk of a machine is made by clusterctl, and goes with it", "")
_IMAGE = ("it is not carried over", "name a machine image with `image` in the pool")
_IGNORED = ("what a directory's .gitignore and .clusterctlignore leave out is not copied", "write them there")
REASONS: Reasons = {
    "upscaling_speed": ("what is wanted is launched at once", "`limits.launches_per_minute` slows it down"),
    "docker": _OF_DOCKER,
    "cluster_synced_files": ("every node gets all `files`", ""),
    "rsync_exclude": _IGNORED,
    "rsync_filter": _IGNORED,
    "metadata": ("a spec has none, and Ray reads none", "write a comment"),
    "head_start_ray_commands": _RAY_STARTS,
    "worker_start_ray_commands": _RAY_STARTS,
    "no_restart": ("it is no setting of a file", ""),
    "worker_setup_commands": ("each node type has commands of its own, which count instead", ""),
    "priority": ("pools have no order: the cheapest one that fits is taken", ""),
    "ssh_public_key": ("the public key is made from the private one", ""),
    "ssh_proxy_command": ("it is not carried over", "write `auth: {jump: USER@HOST}`, or put it into ~/.ssh/config"),
    "ssh_proxy_use_node_id": ("it is not carried over", "`reach` under the provider names other ways to machines"),
    "cache_stopped_nodes": ("idle nodes are ended, not stopped", "write `keep_stopped: N` into a pool to keep N of them"),
    "provider.security_group": ("the cluster makes one of its own", "name yours by its id under the provider"),
    "gcp_credentials": ("credentials are not copied", "the usual ones of this machine are used"),
    "cloudwatch": ("its agent is not installed", "install it with `setup`"),
    "DeviceName": _DISK, "boot": _DISK, "autoDelete": _DISK, "disks.type": _DISK,
    "imagePublisher": _IMAGE, "imageOffer": _IMAGE, "imageSku": _IMAGE, "imageVersion": _IMAGE,
    "KeyName": ("machines get the public half of `auth.key`", ""),
    "IamInstanceProfile": ("rights are the cluster's, not a pool's", "name it under the provider"),
    "InstanceMarketOptions": ("no price above the on-demand one is bid", ""),
    "node_config": ("it is not carried over", "see the provider's settings in docs/spec.md"),
    "tags": ("it is not carried over", "write `tags` under the provider"),
}  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """`most`: workers of all types together."""

    root: At
    kind: Kind
    way: RayUp
    most: int
    moved: Moved
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


def read(document: Document, moved: Moved) -> tuple[Draft, Reader]:
    """The draft; faults are the reader's."""
    reader, draft = Reader(document, REASONS), Draft(KIND)
    root = reader.root
    root.one_of(KEYS)
    if (auth := root.get("auth")) is not None:
        auth.one_of(AUTH_KEYS)
    named = root.get("cluster_name")
    if named is not None:
        draft.put(("cluster",), clean_name(named, named.text(), "cluster"), named)
    kind = _kind(root)
    if kind is None or kind.ray_up is None:
        return draft, reader
    source = _Source(root, kind, kind.ray_up, _most(root), moved)
    _of_provider(source, draft)
    _of_auth(source, draft)
    if kind.ray_up.hosts:
        _hosts(source, draft)
    else:
        _node_types(source, draft)
    _work(source, draft)
    return draft, reader


def _kind(root: At) -> Kind | None:
    """The provider's, of ours. What Ray starts on other clouds is a fault."""
    given = root.get("provider", "type")
    if given is None:
        root.wrong("provider: it has no `type`, which says where machines come from")
        return None
    name = given.text()
    known = {kind.ray_up.type: kind for kind in KINDS.values() if kind.ray_up is not None}
    if name not in known:
        given.wrong(f"clusterctl cannot get machines of {name}", f"there are {', '.join(known)} of Ray's")
    return known.get(name)


def _most(root: At) -> int:
    found = root.whole("max_workers")
    if found is None:
        if root.get("available_node_types"):
            root.note(f"max_workers is left out, which means {_MOST} to Ray: that is the limit here, too")
        return _MOST
    return found


def _of_provider(source: _Source, draft: Draft) -> None:
    kind, way, at = source.kind, source.way, source.root.get("provider")
    assert at is not None
    for theirs, ours in way.settings.items():
        if (one := at.get(theirs)) is not None:
            source.settings[ours] = one.text()
            draft.origins["provider", kind.name, ours] = one
    if at.flag("use_internal_ips") and kind.cloud is not None and "private" in kind.cloud.reach:
        source.settings["reach"] = "private"
    draft.put(("provider",), {kind.name: source.settings} if source.settings else kind.name, at)


def _of_auth(source: _Source, draft: Draft) -> None:
    for theirs, ours in (("ssh_user", "user"), ("ssh_private_key", "key")):
        if (one := source.root.get("auth", theirs)) is not None:
            draft.put(("auth", ours), one.text(), one)


# ---------------------------------------------------------------- machines


def _hosts(source: _Source, draft: Draft) -> None:
    root = source.root
    workers = root.get("provider", "worker_ips")
    if (head := root.get("provider", "head_ip")) is None:
        where = root.get("provider") or root
        where.wrong("it has no `head_ip`", "a coordinator that hands out hosts is not carried over: list them here")
        return
    draft.put(("head", "host"), head.text(), head)
    hosts = root.texts("provider", "worker_ips") or [head.text()]
    most = root.whole("max_workers")
    pool = {
        "name": "hosts",
        "min": root.whole("min_workers") or 0,
        "max": len(hosts) if most is None else min(most, len(hosts)),
    }
    pool["idle_timeout"] = _minutes(root)
    for key, value in {**pool, "hosts": hosts}.items():
        draft.put(("pools", 0, key), value, workers or head)


def _node_types(source: _Source, draft: Draft) -> None:
    head = source.root.get("head_node_type")
    types = source.root.entries("available_node_types")
    if head is None or not types:
        source.root.wrong(
            "it has no `head_node_type` and `available_node_types`, so that nothing says which machines it wants"
        )
        return
    name = head.text()
    if all(one.key != name for one in types):
        head.wrong("there is no such node type", "it is one of available_node_types")
        return
    workers: list[tuple[At, int]] = []
    for one in types:
        one.one_of(TYPE_KEYS)
        own, low = one.whole("max_workers"), one.whole("min_workers") or 0
        if one.key == name:
            _head(one, source, draft)
        most = min(source.most, own if own is not None else source.most if one.key != name else low)
        if most or low:
            workers.append((one, max(most, low)))
        elif one.key != name:
            one.leave("a type with no workers is no pool")
    for one, most in workers:
        _pool(one, most, source, draft)
    if not workers:
        source.root.wrong("no node type may have workers", "set the max_workers of one")
    total = sum(most for _, most in workers)
    draft.put(("limits", "nodes"), source.most + 1 if total > source.most else None, source.root.get("max_workers"))
    for ours in set(source.way.settings_of_nodes.values()):
        found = [values for one in types for values in _settings_of_node(one, source, ours)]
        draft.put(("provider", source.kind.name, ours), same(found, list), source.root.get("available_node_types"))


def _settings_of_node(one: At, source: _Source, ours: str) -> Iterator[list[str]]:
    for path, setting in source.way.settings_of_nodes.items():
        if setting == ours and (found := one.texts("node_config", *_steps(path))):
            yield found


def _head(one: At, source: _Source, draft: Draft) -> None:
    config, way = one.get("node_config"), source.way
    for amount in one.entries("resources"):  # tasks run on workers
        amount.skip()
    if config is None:
        return
    for path, key in ((way.instance, "instance"), (way.image, "image")):
        if path and (at := config.get(*_steps(path))) is not None:
            draft.put(("head", key), at.text(), at)
    _disk(config, source, draft, ("head",))
    if (spot := _spot(config, way)) is not None:
        spot.leave("the head is never a spot machine, since all is lost with it")


def _pool(one: At, most: int, source: _Source, draft: Draft) -> None:
    at, way = ("pools", len(draft.spec.get("pools", []))), source.way
    for key, value in (("name", clean_name(one, one.key, "pool")), ("min", one.whole("min_workers")), ("max", most)):
        draft.put((*at, key), value, one)
    config = one.get("node_config")
    if config is not None:
        if (instance := config.get(*_steps(way.instance))) is not None:
            draft.put((*at, "instances"), [instance.text() + _devices(config, way)], instance)
        if way.image and (image := config.get(*_steps(way.image))) is not None:
            draft.put((*at, "image"), image.text(), image)
        if (spot := _spot(config, way)) is not None:
            draft.put((*at, "market"), ["spot"], spot)
        _disk(config, source, draft, at)
    draft.put((*at, "zones"), _zones(source), source.root.get("provider", way.zones) if way.zones else None)
    _resources(one, source, draft, at)
    idle = one.number("idle_timeout_s")
    draft.put((*at, "idle_timeout"), duration(idle) if idle is not None else _minutes(source.root))
    draft.put((*at, "labels"), {label.key: label.text() for label in one.entries("labels")}, one.get("labels"))
    commands = [
        *one.items("initialization_commands"),
        *(one.items("worker_setup_commands") or source.root.items("worker_setup_commands")),
    ]
    draft.put((*at, "setup"), setup_of(commands, draft))


def _resources(one: At, source: _Source, draft: Draft, at: tuple[str | int, ...]) -> None:
    """What a machine has is known of its type: only resources of one's own, and less of the others, are news."""
    for amount in one.entries("resources"):
        number = amount.whole()
        if amount.key == "object_store_memory":
            draft.put(("engine", "ray", "object_store"), number, amount)
        elif number and (amount.key not in ("CPU", "GPU") or "instances" not in draft.spec["pools"][at[1]]):
            draft.put((*at, "resources", amount.key), number, amount)


def _disk(config: At, source: _Source, draft: Draft, at: tuple[str | int, ...]) -> None:
    size = config.whole(*_steps(source.way.disk)) if source.way.disk else None
    if size:
        draft.put((*at, "disk"), f"{size}GiB", config.get(*_steps(source.way.disk)))


def _spot(config: At, way: RayUp) -> At | None:
    for path, value in way.spot.items():
        if (at := config.get(*_steps(path))) is not None and at.text().lower() == value:
            return at
    return None


def _devices(config: At, way: RayUp) -> str:
    """What is attached to a machine type, as it is part of its name here."""
    found = ""
    for device in config.items(*_steps(way.devices)) if way.devices else []:
        name, count = device.text("acceleratorType").rpartition("/")[2], device.whole("acceleratorCount") or 1
        found += f"+{name}x{count}"
    return found


def _zones(source: _Source) -> list[str]:
    given = source.root.get("provider", source.way.zones) if source.way.zones else None
    text = given.text() if given is not None else ""
    return [] if text in ("auto", "none") else [zone for zone in re.split(r"\s*,\s*", text) if zone]


def _minutes(root: At) -> str:
    found = root.number("idle_timeout_minutes")
    return duration(found * 60) if found is not None else "5m"


def _steps(path: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in path.split(".") if part]


# ---------------------------------------------------------------- what runs on them


def _work(source: _Source, draft: Draft) -> None:
    root = source.root
    image = root.get("docker", "image") or root.get("docker", "head_image")
    if image is not None and (found := re.search(r"(?:^|/)ray:(\d+\.\d+\.\d+)", str(image.node.value))):
        draft.ray_version(found[1], image)
    commands = [*root.items("initialization_commands"), *root.items("setup_commands")]
    if source.way.hosts:
        commands += root.items("worker_setup_commands")
    draft.put(("setup",), setup_of(commands, draft))
    for command in root.items("head_setup_commands"):
        command.leave(
            "it runs on the head alone, and `setup` runs on every node", "add it to `setup` if workers may have it"
        )
    for mount in root.entries("file_mounts"):
        at = ("files", len(draft.spec.get("files", [])))
        if path := mount.text():
            draft.put((*at, "from"), source.moved.here(path), mount)
            draft.put((*at, "to"), mount.key.rstrip("/"), mount)
    if root.flag("file_mounts_sync_continuously") and (at := root.get("file_mounts_sync_continuously")):
        at.note(
            "files are copied when a node starts, and again by `up`",
            "`clusterctl dev sync` follows a directory's changes",
        )
