"""What the driver says of each GPU (`nvidia-smi`), and the errors that it has written to the kernel's log."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.facts import ask_driver

_FIELDS = (
    "index", "uuid", "pci.bus_id", "name", "utilization.gpu", "memory.total", "memory.used", "temperature.gpu", "power.draw",
    "ecc.errors.corrected.volatile.total", "ecc.errors.uncorrected.volatile.total",
)  # fmt: skip
_QUERY = [f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
_MIB = 2.0**20
# Key, place among the fields, and what one is in our units.
_AMOUNTS = (("busy", 4, 0.01), ("memory", 5, _MIB), ("memory_used", 6, _MIB), ("celsius", 7, 1.0), ("watts", 8, 1.0),
            ("corrected", 9, 1.0), ("uncorrected", 10, 1.0))  # fmt: skip
_XID = re.compile(rb"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)")
KERNEL_LOG = Path("/dev/kmsg")
_RECORD, _MOST_RECORDS = 8192, 200_000  # bytes of one, and of how many one look reads
MOST_XIDS = 24  # of different numbers of one GPU
# Of a GPU that is not well: told from the start, so that they can rise.
_GRAVE = ("48", "63", "64", "74", "79", "94", "95", "119")


class GpuFigures:
    """`trouble()` is what the agent knows already of sick GPUs. It may wait for the driver: not for the event loop."""

    def __init__(self, trouble: Callable[[], str], kernel_log: Path = KERNEL_LOG) -> None:
        self._trouble = trouble
        self._xids = Xids(kernel_log)

    def look(self) -> tuple[dict[str, dict[str, Any]], bool] | None:
        """(GPUs by nvidia-smi's index: {"uuid", "name", "busy" (0 to 1), "memory", "memory_used" (bytes), "celsius", "watts",
        "corrected", "uncorrected", "xids": {number: count}}, what the driver does not say left out; whether anything is wrong
        with one); None where there is no driver."""
        answer = ask_driver(_QUERY)
        if answer is None:
            return None
        xids = self._xids.look()
        found: dict[str, dict[str, Any]] = {}
        sick = bool(self._trouble())
        for line in filter(None, map(str.strip, (answer[0] or "").splitlines())):
            fields = [part.strip() for part in line.split(",")]
            if len(fields) != len(_FIELDS) or not fields[0].isdigit() or not fields[1].startswith("GPU-"):
                sick = True
                continue
            amounts = {key: number * unit for key, at, unit in _AMOUNTS if (number := _number(fields[at])) is not None}
            found[fields[0]] = {
                "uuid": fields[1],
                "name": fields[3],
                **amounts,
                "xids": {**self._xids.none(), **xids.get(_slot(fields[2]), {})},
            }
        return found, sick or not found


def total_use(gpus: dict[str, dict[str, Any]]) -> dict[str, float]:
    """{"gpu": how many are busy, "gpu_memory": bytes}, over all of them; without what the driver does not say, as of slices."""
    found: dict[str, float] = {}
    for name, key in (("gpu", "busy"), ("gpu_memory", "memory_used")):
        if gpus and all(key in gpu for gpu in gpus.values()):
            found[name] = round(sum(gpu[key] for gpu in gpus.values()), 4)
    return found


def indices(names: Sequence[str], gpus: dict[str, dict[str, Any]]) -> list[str]:
    """nvidia-smi's numbers of devices that CUDA_VISIBLE_DEVICES would name so; "" for one that is none of them, as a slice."""
    by_uuid = {gpu["uuid"]: index for index, gpu in gpus.items()}
    return [name if name in gpus else by_uuid.get(name, "") for name in names]


class Xids:
    """Errors by the place of the GPU on its bus, counted since the kernel's log begins. The log may be closed to this user: then
    there are none."""

    def __init__(self, path: Path) -> None:
        self._counts: dict[str, Counter[str]] = {}
        try:
            self._log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._log = -1

    def look(self) -> dict[str, dict[str, int]]:
        """Place -> number of the error -> how often it was there. Reads on from where the last look ended."""
        for _ in range(_MOST_RECORDS if self._log >= 0 else 0):
            try:
                record = os.read(self._log, _RECORD)
            except OSError as error:
                if (
                    error.errno == errno.EPIPE
                ):  # the kernel has overwritten what comes next: the oldest there is comes then
                    continue
                break
            if not record:
                break
            for place, number in _XID.findall(record):
                counts = self._counts.setdefault(_slot(place.decode()), Counter())
                if len(counts) < MOST_XIDS or number.decode() in counts:
                    counts[number.decode()] += 1
        return {place: dict(counts) for place, counts in self._counts.items()}

    def none(self) -> dict[str, int]:
        """Of a GPU of which nothing is in the log."""
        return dict.fromkeys(_GRAVE, 0) if self._log >= 0 else {}


def _slot(place: str) -> str:
    """ "0000:3b:00" and "00000000:3B:00.0" are the same."""
    domain, _, rest = place.lower().partition(".")[0].partition(":")
    return f"{domain.lstrip('0')}:{rest}"


def _number(text: str) -> float | None:
    """None for "[N/A]", "[Unknown Error]" and whatever else a driver says instead of a number."""
    try:
        return float(text) if text[:1].isdigit() else None
    except ValueError:
        return None
