"""Wheels of the engine for a head whose machine reaches no package index: downloaded here, kept, and sent to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl.client.doctor.machine import check_ray
from clusterctl.client.head.api import Api
from clusterctl.client.meter import counting, metered
from clusterctl.client.registry import read_note

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec
    from clusterctl.spec.parts import Ray

DOWNLOAD, ON_DISK = 130, 340  # MB of ray[default] 2.60 for Linux on x86-64, measured


def bring_wheels(api: Api, store: Path, status: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Sends what the head waits for, if anything; `status` is its document. Raises ClusterctlError when the wheels cannot be
    had here either."""
    if not (status.get("engine") or {}).get("wheels_wanted"):
        return
    from clusterctl_runtime.engine.wheelhouse import Wanted, Wheelhouse

    house = Wheelhouse(store)
    for entry in api.get("/api/v1/engine/wheels")["wanted"]:
        packages = tuple(entry.get("packages") or ())
        wanted = Wanted(entry["ray"], tuple(entry["extras"]), entry["python"], entry["platform"], packages)
        wheels = house.get(wanted, lambda text: None)
        blobs = [(wheel, f"/api/v1/blobs/{wheel.sha256}") for wheel in wheels]
        missing = [(wheel, path) for wheel, path in blobs if not api.has(path)]
        size = sum(wheel.size for wheel, _ in missing)
        if missing:
            tell(
                f"sending Ray {wanted.ray} to the head, whose machine reaches no package index ({size / 2**20:.0f} MiB)"
            )
        with metered("sending to the head", size):
            for wheel, path in missing:
                with house.path(wheel.sha256).open("rb") as file:
                    api.upload(path, file, wheel.size, counting())
        listed = [{"file": wheel.file, "sha256": wheel.sha256, "size": wheel.size} for wheel in wheels]
        api.put(f"/api/v1/engine/wheels/{entry['key']}", {"wheels": listed})


def install_note(spec: ClusterSpec, store: Path) -> str:
    """What to say before Ray is installed for the first time; "" where nothing will be. `store` is this machine's."""
    ray = spec.ray
    if ray is None or ray.python or spec.kind.imagined or spec.provider_settings.get("engine_env"):
        return ""
    if spec.kind.machine == "process":
        return first_time(ray, store)
    name = f"Ray {ray.version}" if ray.version else "Ray"
    size = f"about {DOWNLOAD} MB to download, once, and {ON_DISK} MB on a node's disk"
    return f"{name} is installed on nodes that lack it: {size}{_more(ray)}"


def first_time(ray: Ray, store: Path) -> str:
    """The same for nodes on this machine: "" too where it was installed before."""
    from clusterctl_runtime.engine.environment import TESTED_VERSION
    from clusterctl_runtime.engine.requirements import plain_requirements

    here = check_ray()
    if ray.python or (here.ok and ray.version in ("", here.found) and not ray.extras and not ray.packages):
        return ""
    version = ray.version or (here.found if here.ok else TESTED_VERSION)
    for note in store.glob("*/engine.json"):
        known = read_note(note)
        same = known.get("ray") == version and set(plain_requirements(ray.packages)) == set(known.get("packages") or ())
        if same and set(ray.extras) <= set(known.get("extras") or ()):
            return ""
    return f"Ray {version} is installed once below {store}: about {DOWNLOAD} MB to download, {ON_DISK} MB on disk{_more(ray)}"


def _more(ray: Ray) -> str:
    """What is not in those sizes."""
    return f", and more for {', '.join(ray.packages)}" if ray.packages else ""
