"""`resources` of a task of SkyPilot: places, and pools of what may be wanted there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from clusterctl.importing.given import Given
from clusterctl.importing.reading import At
from clusterctl.spec.faults import Path
from clusterctl.spec.providers.registry import A_PLACE, KINDS

RESOURCE_KEYS = (
    "cloud", "region", "zone", "infra", "cpus", "memory", "accelerators", "instance_type", "use_spot", "job_recovery", "volumes",
    "disk_size", "ephemeral_storage", "disk_tier", "network_tier", "local_disk", "max_hourly_cost", "ports", "labels",
    "accelerator_args", "image_id", "autostop", "priority", "priority_class", "any_of", "ordered",
    "_no_missing_accel_warnings", "_docker_login_config", "_is_image_managed", "_requires_fuse", "_cluster_config_overrides",
)  # fmt: skip
_KEYS = {"instance_type": "instances", "use_spot": "market", "disk_size": "disk", "image_id": "image", "zone": "zones"}
_CPUS, _GIB_PER_CPU = 8, 4  # what a task gets that does not say how large its machines are


_Pool = tuple[dict[str, Any], dict[str, At]]  # without its bounds; where its keys are from, "" for the others


@dataclass
class Asked:
    """`places`: (path in the spec, value, whence). `gpus`: of one node;
    `gpu_name`: "" where several will do. `idle`: after which the cluster ends."""

    places: list[tuple[Path, Any, At | None]] = field(default_factory=list[tuple[Path, Any, At | None]])
    pools: list[_Pool] = field(default_factory=list[_Pool])
    gpus: int = 0
    gpu_name: str = ""
    idle: tuple[str, At] | None = None


@dataclass(frozen=True)
class _Choice:
    """One of several resources that will do. A key that it does not have itself is looked for in `base`."""

    own: At
    base: At

    def get(self, key: str) -> At | None:
        return self.own.get(key) or self.base.get(key)


def resources(at: At | None, given: Given, root: At) -> Asked:
    """Faults go to the reader."""
    asked = Asked()
    base = at or root
    if at is not None:
        at.one_of(RESOURCE_KEYS)
    listed = [(key, one) for key in ("any_of", "ordered") for one in (at.items(key) if at else [])]
    for _, one in listed:
        one.one_of(RESOURCE_KEYS)
    choices = [_Choice(one, base) for _, one in listed] or [_Choice(base, base)]
    _places(choices, "written" if listed and listed[0][0] == "ordered" else "price", given, asked, root)
    if at is not None and (autostop := at.get("autostop")) is not None:
        _autostop(autostop, asked)
    _pools(choices, asked, at is None)
    _labels(at, asked)
    return asked


# ---------------------------------------------------------------- where


def _places(choices: list[_Choice], order: str, given: Given, asked: Asked, root: At) -> None:
    found: dict[tuple[str, str], At] = {}
    for choice in choices:
        cloud, region, at = _place(choice)
        if cloud and at is not None:
            found.setdefault((cloud, region), at)
    if given.provider:
        for at in found.values():
            if at.text().partition("/")[0].lower() != given.provider:
                at.note(f"the place is {given.provider}, as --provider says")
        asked.places.append((("provider",), given.value, None))
        return
    if not found:
        what = "the task does not say where it runs: SkyPilot would look at all clouds that you use"
        root.wrong(what, f"say where with --provider, as in --provider {A_PLACE}")
        return
    places: list[Any] = []
    for (cloud, region), at in found.items():
        kind = next((one for one in KINDS.values() if cloud in (one.name, *one.other_names)), None)
        if kind is not None and kind.machine == "pod":
            places.append({kind.name: {"context": region} if region else {}})
        elif kind is None or kind.cloud is None:
            clouds = ", ".join(one.name for one in KINDS.values() if one.cloud)
            at.wrong(
                f"clusterctl cannot get machines of {cloud}", f"there are {clouds}; --provider names another place"
            )
        elif not region:
            what = "it names no region: SkyPilot would look at all"
            at.wrong(what, f"write {cloud}/{kind.cloud.region} or another, or say it with --provider")
        else:
            places.append({cloud: {"region": region}})
    if places:
        whole = places[0] if len(places) == 1 else places
        asked.places.append((("provider",), whole, next(iter(found.values()))))
        asked.places.append((("provider_order",), "price" if len(places) > 1 and order == "price" else None, None))


def _place(choice: _Choice) -> tuple[str, str, At | None]:
    """(cloud, region, where that is said), "" for what is not."""
    infra = choice.own.get("infra") or (None if choice.own.get("cloud") else choice.base.get("infra"))
    if infra is not None:
        cloud, region, *_ = [*("" if part == "*" else part for part in infra.text().split("/")), "", ""]
        return cloud.lower(), region, infra if cloud else None
    cloud, region = choice.get("cloud"), choice.get("region")
    return cloud.text().lower() if cloud else "", region.text() if region else "", cloud


def _zone(choice: _Choice) -> str:
    infra, zone = choice.get("infra"), choice.get("zone")
    parts = infra.text().split("/") if infra else []
    return zone.text() if zone else parts[2] if len(parts) > 2 and parts[2] != "*" else ""


# ---------------------------------------------------------------- what


def _pools(choices: list[_Choice], asked: Asked, nothing: bool) -> None:
    """One for each sort of machine that will do, with what is bought of it where."""
    made: dict[str, _Pool] = {}
    bought: dict[str, dict[str, dict[str, list[str]]]] = {}
    for choice in choices:
        cloud, region, _ = _place(choice)
        for name, count, at in _accelerators(choice) or [("", 0, choice.own)]:
            sort = f"{name}:{count}"
            places = {"": at, **{ours: one for theirs, ours in _KEYS.items() if (one := choice.get(theirs))}}
            made.setdefault(sort, (_pool(choice, name, count), places))
            for key, values in _bought(choice).items():
                known = bought.setdefault(sort, {}).setdefault(key, {}).setdefault(f"{cloud}/{region}", [])
                known += [value for value in values if value not in known]
    several = isinstance(asked.places[0][1], list) if asked.places else False
    for sort, (pool, _) in made.items():
        pool |= {
            key: found
            for key, by in bought[sort].items()
            if (found := _by_place(by, several)) not in ([], ["on-demand"])
        }
    if nothing or not any(any(key in pool for key in ("gpu", "instances", "resources")) for pool, _ in made.values()):
        at = choices[0].own
        at.note(f"it asks for no size, which means {_CPUS} CPUs and {_CPUS * _GIB_PER_CPU} GiB to SkyPilot")
        for pool, _ in made.values():
            pool["resources"] = {"CPU": _CPUS, "memory": f"{_CPUS * _GIB_PER_CPU}GiB"}
    asked.pools += _with_names(list(made.values()))
    gpus = [pool["gpu"] for pool, _ in asked.pools if "gpu" in pool]
    asked.gpus = min((gpu["count"] for gpu in gpus), default=0) if len(gpus) == len(asked.pools) else 0
    asked.gpu_name = gpus[0]["name"] if len(asked.pools) == len(gpus) == 1 else ""


def _bought(choice: _Choice) -> dict[str, list[str]]:
    instance, spot, zone = choice.get("instance_type"), choice.get("use_spot"), _zone(choice)
    return {
        "instances": [instance.text()] if instance else [],
        "market": ["spot" if spot and spot.flag() else "on-demand"],
        "zones": [zone] if zone else [],
    }


def _by_place(values: dict[str, list[str]], several: bool) -> Any:
    """The same everywhere, or what is written for each place."""
    each = list(values.values())
    if not several or all(one == each[0] for one in each):
        return list(dict.fromkeys(value for one in each for value in one))
    return {place: one for place, one in values.items() if one}


def _with_names(pools: list[_Pool]) -> list[_Pool]:
    """No two with one name."""
    seen: dict[str, int] = {}
    for pool, _ in pools:
        name = pool["name"]
        seen[name] = seen.get(name, 0) + 1
        pool["name"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return pools


def _pool(choice: _Choice, name: str, count: int) -> dict[str, Any]:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    pool: dict[str, Any] = {"name": plain if plain[:1].isalpha() else f"gpu-{plain}" if plain else "cpu"}
    amounts = {key: value for key, value in (("CPU", _cpus(choice)), ("memory", _memory(choice))) if value}
    if choice.get("instance_type") is None:
        pool |= {"gpu": {"name": name, "count": count}} if name else {}
        pool |= {"resources": amounts} if amounts else {}
    image, disk = choice.get("image_id"), choice.get("disk_size")
    if image is not None:
        _image(image, pool)
    if disk is not None and (size := _size(disk)):
        pool["disk"] = size
    return pool


def _image(at: At, pool: dict[str, Any]) -> None:
    text = at.text() if isinstance(at.node.value, str) else ""
    if not text or text.startswith(("docker:", "skypilot:")):
        at.leave(
            "programs run on the machine itself",
            "install with `setup` what the image has, or name a machine image in the pool",
        )
    else:
        pool["image"] = text


def _accelerators(choice: _Choice) -> list[tuple[str, int, At]]:
    at = choice.get("accelerators")
    if at is None:
        return []
    if isinstance(at.node.value, dict):
        return [found for one in at.inner() for found in _device(one.key, "1" if one.is_null else one.text(), one)]
    written = at.items() if isinstance(at.node.value, list) else [at]
    found: list[tuple[str, int, At]] = []
    for one in written:
        for part in one.text().strip("{}").split(","):
            name, _, count = part.strip().partition(":")
            found += _device(name.strip(), count.strip() or "1", one)
    return found


def _device(name: str, count: str, at: At) -> list[tuple[str, int, At]]:
    if name.lower().startswith("tpu"):
        at.wrong(f"{name}: no pool has TPUs")
    elif not re.fullmatch(r"[0-9]+(\.0+)?", count) or not float(count):
        at.wrong(f"{name}: a node has whole GPUs, one or more, and this is {count or 'nothing'}")
    else:
        at.skip()
        return [(name, int(float(count)), at)]
    return []


def _cpus(choice: _Choice) -> int | None:
    at = choice.get("cpus")
    text = at.text().rstrip("+") if at else ""
    if at is not None and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        at.wrong("must be a number of CPUs, as in 4 or 4+")
        return None
    return -int(-float(text) // 1) if text else None


def _memory(choice: _Choice) -> str | None:
    at = choice.get("memory")
    if at is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(x|[a-zA-Z]*)\+?", at.text())
    if not found:
        at.wrong("must be an amount of memory, as in 16, 16+ or 64GB")
        return None
    amount, unit = float(found[1]), found[2].lower()
    if unit == "x":
        amount, unit = amount * (_cpus(choice) or 0), "gb"
        if not amount:
            at.wrong("it is a multiple of the CPUs, and these are not given", "write it in GB")
            return None
    return _written(amount, unit)


def _size(at: At) -> str | None:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)", at.text())
    if not found:
        at.wrong("must be a size, as in 256 or 1TB")
        return None
    return _written(float(found[1]), found[2].lower())


def _written(amount: float, unit: str) -> str:
    """SkyPilot's units are powers of 1024 whatever they are called, and gigabytes where none is written."""
    letter = (unit[:1] or "g").upper()
    return f"{amount:g}{letter}iB"


# ---------------------------------------------------------------- the rest


def _autostop(at: At, asked: Asked) -> None:
    if not isinstance(at.node.value, dict) or not at.flag("down"):
        return  # it would be stopped, which is left to say
    minutes = at.get("idle_minutes")
    text = minutes.text() if minutes else ""
    if minutes is not None and re.fullmatch(r"[0-9]+[smhd]?", text):
        asked.idle = (text if text[-1].isalpha() else f"{text}m", minutes)
        if asked.idle[0].rstrip("smhd") == "0":
            asked.idle = None
            minutes.note("a cluster that ends at once is not carried over", "write `lifetime: {after_last_job: 0s}`")


def _labels(at: At | None, asked: Asked) -> None:
    """They are tags of machines, where the cloud has such."""
    provider = asked.places[0][1] if asked.places else None
    tags = {one.key: one.text() for one in at.entries("labels")} if at else {}
    if tags and at is not None and isinstance(provider, dict):
        (name,) = provider
        asked.places.append((("provider", name, "tags"), tags, at.get("labels")))
    elif tags and (one := at.get("labels") if at else None):
        one.note("they are tags of machines, and not carried over", "write `tags` under the provider")
