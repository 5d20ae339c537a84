"""Disks that outlive machines: sparse files behind loop devices, which a machine sees by the
names of its cloud."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Plugged:
    machine_id: str
    loop: str  # /dev/loopN of this host
    node: str = ""  # its name in the machine, such as nvme1n1; "" before the machine has it


class Disks:
    """`run_in(machine_id, script)` runs a shell script as root in the mount namespace of a machine, with $DEV its /dev;
    it waits for a machine that boots, and returns False for one that is gone."""

    def __init__(self, directory: Path, run_in: Callable[[str, str], bool], link_of: Callable[[str], str]) -> None:
        """`link_of`: a disk's name below /dev/disk."""
        self.directory, self._run_in, self._link_of = directory, run_in, link_of
        self.busy = 0  # how often a disk was in use when it was to be pulled out
        self._plugged: dict[str, Plugged] = {}
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []

    def attach(self, instance_id: str, volume_id: str, gib: int) -> None:
        """Returns at once; the device appears in the machine as soon as that has a /dev."""
        with self._lock:
            path = self._file(volume_id)
            if not path.exists():
                self.directory.mkdir(parents=True, exist_ok=True)
                path.touch(0o600)
                os.truncate(path, gib << 30)
            disk = self._plugged[volume_id] = Plugged(instance_id, _run("losetup", "-f", "--show", str(path)))
            taken = {d.node for d in self._plugged.values() if d.machine_id == instance_id}
            disk.node = next(f"nvme{n}n1" for n in range(1, 30) if f"nvme{n}n1" not in taken)
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(threading.Thread(target=self._plug_in, args=(volume_id, disk), daemon=True))
            self._threads[-1].start()

    def _plug_in(self, volume_id: str, disk: Plugged) -> None:
        name = self._link_of(volume_id)
        place, up = name.rpartition("/")[0], "../" * (name.count("/") + 1)
        number = disk.loop.removeprefix("/dev/loop")
        self._run_in(
            disk.machine_id,
            f"mknod -m 660 $DEV/{disk.node} b 7 {number} && mkdir -p $DEV/disk/{place} && "
            f"ln -sfn {up}{disk.node} $DEV/disk/{name}",
        )

    def release(self, volume_id: str, force: bool) -> bool:
        """Pulls it out of its machine; False while a file system on it is mounted there and `force` is not set."""
        with self._lock:
            disk = self._plugged.get(volume_id)
            if disk is None:
                return True  # it was in no machine
            busy = f"grep -q '^$DEV/{disk.node} \\|^/dev/{disk.node} ' /proc/self/mounts && exit 1; "
            gone = f"rm -f $DEV/{disk.node} $DEV/disk/{self._link_of(volume_id)}"
            if not self._run_in(disk.machine_id, ("" if force else busy) + gone) and self._alive(disk.machine_id):
                self.busy += 1
                return False
            _run("losetup", "-d", disk.loop, check=False)
            if _run("losetup", "-j", str(self._file(volume_id))):
                return False  # the kernel still writes: the mount of a machine that was killed goes away in a moment
            del self._plugged[volume_id]
            return True

    def _alive(self, machine_id: str) -> bool:
        return self._run_in(machine_id, "true")

    def erase(self, volume_id: str) -> None:
        self._file(volume_id).unlink(missing_ok=True)

    def close(self) -> None:
        """Call when the machines are gone. Also takes away what a killed process left in the directory."""
        for thread in self._threads:
            thread.join(60)
        self._plugged.clear()
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                for line in _run("losetup", "-j", str(path)).splitlines():
                    _run("losetup", "-d", line.partition(":")[0], check=False)
                path.unlink()
            self.directory.rmdir()

    def _file(self, volume_id: str) -> Path:
        return self.directory / volume_id


def _run(*argv: str, check: bool = True) -> str:
    return subprocess.run(argv, check=check, capture_output=True, text=True).stdout.strip()
