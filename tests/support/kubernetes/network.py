"""A machine that is none: network, mounts and processes of its own on this one, joined to it by a cable. Needs root."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

import psutil
import pytest

from tests.support.cluster import wait_until
from tests.support.kubernetes.running import Running

# What a kubelet writes outside of its own directory, and no test should find; process 1, which reaps what others leave.
INSIDE = """
for place in /run /var/lib /var/log; do mount -t tmpfs tmpfs $place; done
mkdir /run/lock
ip link set lo up
sleep infinity & wait
"""


class Machine:
    """Ends, with all that runs in it, when `running` ends it or this process dies.

    `outside`: this machine's end of the cable, which the other reaches; `address`: its own; `pods`: a network behind it.
    """

    def __init__(self, running: Running) -> None:
        if os.geteuid() != 0:
            pytest.fail("these tests make network namespaces, which needs root: use sudo")
        # It would hand SIGTERM on to a process 1, which minds no signals.
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        running.start("machine", [*unshare, "sh", "-ec", INSIDE], ends=signal.SIGKILL)
        holder = psutil.Process(running.pid("machine"))
        wait_until(lambda: running.all_run() and len(holder.children(recursive=True)) > 1, what="the machine is there")
        self.pid = holder.children()[0].pid
        number = self._cable()
        self.outside, self.address = f"10.213.{number}.1", f"10.213.{number}.2"
        self.gateway, self.pods = f"10.214.{number}.1", f"10.214.{number}.0/24"
        _run("ip", "address", "add", f"{self.outside}/30", "dev", f"pods{number}")
        _run("ip", "link", "set", f"pods{number}", "up")
        self.run("ip", "address", "add", f"{self.address}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.outside)
        _run("ip", "route", "add", self.pods, "via", self.address)

    @property
    def inside(self) -> Sequence[str]:
        """What a command is given to that runs in it."""
        return ("nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--")

    def run(self, *command: str) -> None:
        _run(*self.inside, *command)

    def _cable(self) -> int:
        """Its number, which no other machine has."""
        for number in range(1, 250):
            add = ["ip", "link", "add", f"pods{number}", "type", "veth", "peer", "name", "eth0", "netns", str(self.pid)]
            done = subprocess.run(add, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return number
            assert "File exists" in done.stderr, f"{' '.join(add)}: {done.stderr}"
        raise AssertionError("249 machines are there already")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
