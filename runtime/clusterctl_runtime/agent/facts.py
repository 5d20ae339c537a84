"""What this machine is: CPUs, memory, disk, GPUs, Python, clock. Standard library and this file only: it is also sent to hosts
that have nothing of ours yet."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OWN_PROCESS = Path("/proc/self")
SMI_SECONDS = 10.0  # that a driver gets to answer; one that is stuck never does
_SMI = "nvidia-smi"
_SMI_ELSEWHERE = os.pathsep.join(("/usr/bin", "/usr/local/bin", "/usr/lib/wsl/lib", "/opt/nvidia/bin"))
_QUERY = ["--query-gpu=name,memory.total,uuid,mig.mode.current", "--format=csv,noheader,nounits"]
_OLD_QUERY = ["--query-gpu=name,memory.total,uuid", "--format=csv,noheader,nounits"]  # of drivers that know no MIG
_LISTED = re.compile(r"GPU \d+: (?P<name>.+) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_SLICE = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")
_MAY_BE_UNKNOWN = frozenset(
    {"[N/A]", "[Not Supported]", "N/A", ""}
)  # as a size: devices that share the machine's memory


def read_facts(directory: Path) -> dict[str, Any]:
    """Sizes in bytes, clock in unix seconds; a fact that cannot be read is left out or zero."""
    return {**read_machine(directory), **read_gpus()}


def read_machine(directory: Path) -> dict[str, Any]:
    """All but the GPUs, which may take their time."""
    return {
        "hostname": socket.gethostname(),
        "outward": _outward(),
        "cpus": own_cpus(),
        "memory": own_memory(),
        "disk_free": shutil.disk_usage(directory).free,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": sys.platform,
        "machine": platform.machine(),
        "kernel": os.uname().release,
        "clock": time.time(),
    }


def _outward() -> str:
    """The address that this machine shows to others; "" where no way leads out. Nothing is sent."""
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


# ---------------------------------------------------------------- GPUs


def read_gpus() -> dict[str, Any]:
    """`gpus`: those that can be used, in the driver's order: name, memory in bytes, uuid; slices where a GPU is cut into them.
    `gpu_trouble`: what is wrong with the others, in the driver's words. `gpus_read`: when this was looked at."""
    found: dict[str, Any] = {"gpus": [], "gpu_trouble": "", "gpus_read": time.time()}
    tool = _tool()
    if not tool:
        return found
    said, complaint = _ask(tool, _QUERY)
    if said is not None and "not a valid field" in said:
        said, complaint = _ask(tool, _OLD_QUERY)
    if said is None:
        return {**found, "gpu_trouble": complaint}
    rows, troubles = _rows(said)
    if not rows or any(row["mig"] for row in rows):
        rows, more = _cut(rows, _ask(tool, ["-L"])[0] or "")
        troubles += [text for text in more if text not in troubles]
    gpus = [{key: row[key] for key in ("name", "memory", "uuid")} for row in rows]
    return {
        **found,
        "gpus": gpus,
        "gpu_trouble": "; ".join(troubles or ([] if gpus else [complaint] if complaint else [])),
    }


def ask_driver(arguments: list[str]) -> tuple[str | None, str] | None:
    """What nvidia-smi printed and why that may be wrong (see `_ask`); None where there is no driver."""
    tool = _tool()
    return _ask(tool, arguments) if tool else None


def _tool() -> str | None:
    return shutil.which(_SMI) or shutil.which(_SMI, path=_SMI_ELSEWHERE)


def _ask(tool: str, arguments: list[str]) -> tuple[str | None, str]:
    """What it printed and why that may be wrong; None when it did not answer. Its exit code says nothing: it is not 0 when one
    GPU of many has a scratch. A process that is stuck in the driver cannot be killed: nobody waits for it."""
    try:
        process = subprocess.Popen(
            [tool, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return None, f"{tool} cannot be started: {error.strerror or error}"
    try:
        said, complaint = process.communicate(timeout=SMI_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return None, f"{tool} did not answer within {SMI_SECONDS:g} s: the driver is stuck, look at `dmesg`"
    return said, complaint.strip()


def _rows(said: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The devices that a query lists, and what it says of others."""
    rows: list[dict[str, Any]] = []
    troubles: list[str] = []
    for line in filter(None, map(str.strip, said.splitlines())):
        name, memory, uuid, mig = ([part.strip() for part in line.split(",")] + ["", "", ""])[:4]
        well = memory.isdigit() or memory in _MAY_BE_UNKNOWN
        if not uuid.startswith("GPU-") or name.startswith("[") or not well:
            troubles.append(line)
            continue
        size = int(memory) * 2**20 if memory.isdigit() else 0
        rows.append({"name": name, "memory": size, "uuid": uuid, "mig": mig == "Enabled"})
    return rows, troubles


def _cut(rows: list[dict[str, Any]], listing: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The devices by the driver's other list, which has slices, and lists the rest where one sick GPU ends the query."""
    sizes = {row["uuid"]: row["memory"] for row in rows}
    cut = {row["uuid"] for row in rows if row["mig"]}
    found: list[dict[str, Any]] = []
    troubles: list[str] = []
    whole: dict[str, Any] | None = None
    for line in listing.splitlines():
        if match := _LISTED.match(line):
            whole = {**match.groupdict(), "memory": sizes.get(match["uuid"], 0)}
            if whole["uuid"] not in cut:
                found.append(whole)
        elif whole and (match := _SLICE.match(line)):
            if whole in found:
                found.remove(whole)
            cut.discard(whole["uuid"])
            size = re.search(r"(\d+)gb", match["profile"])
            memory = int(size[1]) * 2**30 if size else 0
            found.append({"name": f"{whole['name']} MIG {match['profile']}", "memory": memory, "uuid": match["uuid"]})
        elif line.strip() and "," not in line:
            troubles.append(line.strip())
    troubles += [
        f"{uuid} is to be cut (MIG is on) and has no slices: make some, or turn MIG off" for uuid in sorted(cut)
    ]
    return found, troubles


# ---------------------------------------------------------------- CPUs and memory


def own_cpus() -> int:
    """Those that this process may use, and no more than its control group's share of time: half of one counts as one."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    for _, group in own_groups("cpu"):
        quota, period = _words(group / "cpu.max", 2)
        if not quota:
            (quota,), (period,) = _words(group / "cpu.cfs_quota_us", 1), _words(group / "cpu.cfs_period_us", 1)
        if quota.isdigit() and period.isdigit() and int(period):
            count = min(count, max(1, int(quota) // int(period)))
    return count


def own_memory() -> int:
    """The machine's memory, or the least limit of a control group that this process is in."""
    try:
        least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        least = 0
    for _, group in own_groups("memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            (limit,) = _words(group / name, 1)
            if limit.isdigit() and int(limit):
                least = min(least, int(limit)) if least else int(limit)
    return least


def own_groups(controller: str, process: Path | None = None) -> Iterator[tuple[str, Path]]:
    """The directories of the control groups that this process is in, each with its version ("cgroup2", or "cgroup" with this
    controller), from its own to the topmost that can be seen: a limit of any of them counts."""
    try:
        paths = dict(_group_paths(controller, process or OWN_PROCESS))
        mounts = ((process or OWN_PROCESS) / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        kind, _, options = [*rest.split(" "), "", "", ""][:3]
        path = paths.get(kind)
        if path is None or (kind == "cgroup" and controller not in options.split(",")):
            continue
        root, top = fields.split(" ")[3], Path(fields.split(" ")[4])
        below = top / path.removeprefix(root if root != "/" else "").strip("/")
        place = below if path.startswith(root) and below.is_dir() else top
        yield kind, place
        while place != top:
            place = place.parent
            yield kind, place


def _group_paths(controller: str, process: Path) -> Iterator[tuple[str, str]]:
    for line in (process / "cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            yield "cgroup2", path
        elif controller in names.split(","):
            yield "cgroup", path


def _words(path: Path, count: int) -> list[str]:
    """The first words of a small file; empty ones where it cannot be read."""
    try:
        words = path.read_text().split()
    except OSError:
        words = []
    return (words + [""] * count)[:count]
