"""What is used of this machine, or of this container where the agent is in one: CPUs, memory, disks, network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.facts import own_cpus, own_groups, own_memory

_PROC, _SYS = Path("/proc"), Path("/sys")
_SECTOR = 512  # bytes, whatever the disk says of itself


class Machine:
    """`places`: directories by the names under which their file systems are told."""

    def __init__(self, places: Mapping[str, Path], proc: Path = _PROC, sys: Path = _SYS) -> None:
        self._places, self._proc, self._sys = places, proc, sys
        topmost = [group for kind, group in own_groups("memory") if kind == "cgroup2"][-1:]
        self._group = topmost[0] if topmost else None
        self._contained = self._group is not None and (self._group / "memory.current").exists()

    def look(self) -> dict[str, Any]:
        """{"node": {"cpus", "cpu_seconds", "memory", "memory_used", "read", "written", "received", "sent"}, "disks": {place:
        [size, free]}}: bytes, and seconds, since the machine's or the container's start; what is not known left out."""
        found = {
            "cpus": own_cpus(),
            "cpu_seconds": self._cpu_seconds(),
            "memory": own_memory() or None,
            "memory_used": self._memory(),
            **self._input_and_output(),
            **self._network(),
        }
        return {"node": {key: value for key, value in found.items() if value is not None}, "disks": self._disks()}

    def _cpu_seconds(self) -> float | None:
        if (used := cpu_seconds_of(self._group)) is not None:
            return used
        fields = _text(self._proc / "stat").partition("\n")[0].split()
        if fields[:1] != ["cpu"]:
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float | None:
        """Without what is only kept because nobody else wants the space."""
        if self._contained and self._group:
            current = _text(self._group / "memory.current").strip()
            cached = _figures(_text(self._group / "memory.stat")).get("inactive_file", 0)
            return float(max(0, int(current) - cached)) if current.isdigit() else None
        figures = _figures(_text(self._proc / "meminfo").replace(":", ""))
        if "MemTotal" not in figures or "MemAvailable" not in figures:
            return None
        return float((figures["MemTotal"] - figures["MemAvailable"]) * 1024)

    def _input_and_output(self) -> dict[str, float]:
        """Of real disks only: what lies on them (partitions, volumes, arrays) is counted there."""
        if self._contained and self._group:
            words = [word.partition("=") for word in _text(self._group / "io.stat").split() if "=" in word]
            sums = {key: sum(int(v) for k, _, v in words if k == key) for key in ("rbytes", "wbytes")}
            return {"read": sums["rbytes"], "written": sums["wbytes"]} if words else {}
        found: dict[str, float] = {}
        for disk in _entries(self._sys / "block"):
            fields = _text(disk / "stat").split() if (disk / "device").exists() else []
            if len(fields) > 6:
                found["read"] = found.get("read", 0) + int(fields[2]) * _SECTOR
                found["written"] = found.get("written", 0) + int(fields[6]) * _SECTOR
        return found

    def _network(self) -> dict[str, float]:
        """Of network cards; in a container, which has none, of all but the loopback."""
        counted: dict[str, tuple[int, int]] = {}
        for line in _text(self._proc / "net" / "dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            fields = rest.split()
            if name.strip() != "lo" and len(fields) > 8:
                counted[name.strip()] = int(fields[0]), int(fields[8])
        cards = [name for name in counted if (self._sys / "class" / "net" / name / "device").exists()]
        chosen = [counted[name] for name in cards or counted]
        return {"received": sum(one[0] for one in chosen), "sent": sum(one[1] for one in chosen)} if chosen else {}

    def _disks(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        seen: set[int] = set()
        for place, path in self._places.items():
            try:
                device, state = path.stat().st_dev, os.statvfs(path)
            except OSError:
                continue
            if device not in seen:
                seen.add(device)
                found[place] = [state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize]
        return found


def cpu_seconds_of(group: Path | None) -> float | None:
    """Used so far by a control group of the new version; None where that does not say."""
    for line in _text(group / "cpu.stat").splitlines() if group else ():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    return None


def _figures(text: str) -> dict[str, int]:
    pairs = (line.split()[:2] for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _entries(directory: Path) -> Iterable[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return ()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
