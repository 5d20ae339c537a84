"""Real machines for the instances of a pretended cloud: each a set of Linux namespaces with its own address, files,
processes, sshd and metadata service, which runs its user data as root. Needs root, and knows nothing of any cloud.

    with Machines(dialect=..., disk_link=...) as machines:
        machines.boot(MachineSpec("i-1", f"{NETWORK}.1.4", user_data=b"#!/bin/sh ..."))
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import psutil

from tests.cloud.disks import Disks
from tests.cloud.metadata import Dialect, MetadataServer

METADATA_ADDRESS = "169.254.169.254"
# Each process of a test run has a network of its own, so that none waits for another's machines.
NETWORK = f"10.{77 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))}"
CIDR = f"{NETWORK}.0.0/16"
GATEWAY = f"{NETWORK}.0.1"  # this host, as the machines see it
NAMES = f"ip-{NETWORK.replace('.', '-')}-"  # how the machines' names begin
_SCRIPT = Path(__file__).with_name("machine.sh")
_PUBLIC_ADDRESSES = """\
table ip {bridge} {{
  map public {{ type ipv4_addr : ipv4_addr; }}
  chain here {{ type nat hook output priority -100
    dnat to ip daddr map @public
  }}
  chain machines {{ type nat hook prerouting priority -100
    dnat to ip daddr map @public
  }}
}}
"""
_HOME = "/var/tmp"
HALT_SECONDS = 5.0  # that programs get to end when their machine is stopped
_LOCKS = Path("/run/lock")  # one cloud at a time per network


@dataclass
class MachineSpec:
    """`facts` are what the metadata service answers from, by the cloud's own names; `fresh` gives those that change.
    `public`: an address by which this host and the other machines reach it too. `clock`: seconds by which its clock is
    wrong (needs gcc). `user_data` runs at the first boot, `startup` at every one. `hosts`: names that it resolves besides its
    own, as lines of /etc/hosts; `hostname`: its own, if not one that follows from its address. `user` gets in with
    `authorized_key`, and may become root."""

    id: str
    address: str
    user_data: bytes = b""
    authorized_key: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    fresh: Callable[[], dict[str, str]] = dict
    public: str = ""
    clock: int = 0
    startup: bytes = b""
    hosts: str = ""
    hostname: str = ""
    user: str = "ubuntu"
    authority: str = ""  # PEM, which its programs trust alone, as machines of a company's image trust its own
    keeps_disk: bool = False  # also when it turns itself off


class Machines:
    """`on_power_off(id)` is called when a machine turned itself off. `dialect` and `disk_link` are the cloud's: how its
    metadata service is spoken to, and under which name a machine sees a disk."""

    def __init__(
        self, gateway: str, on_power_off: Callable[[str], None], dialect: Dialect, disk_link: Callable[[str], str]
    ) -> None:
        self.gateway = ip_interface(gateway)
        self.bridge = "cctl" + "-".join(gateway.split(".")[:2])
        self.on_power_off = on_power_off
        self._machines: dict[str, _Machine] = {}
        self._lock = threading.RLock()
        self._booting = threading.Semaphore(8)
        self._consoles: dict[str, str] = {}  # of machines that are gone
        self._halting: dict[str, threading.Thread] = {}
        self._off: set[str] = set()  # those that turned themselves off and kept their disk
        self._threads: list[threading.Thread] = []
        _LOCKS.mkdir(exist_ok=True)
        self._descriptor = os.open(_LOCKS / f"{self.bridge}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        for remains in Path(_HOME).glob(f"{self.bridge}-machines-*"):  # of a test that was killed
            Disks(remains / "disks", self._run_in, disk_link).close()
            shutil.rmtree(remains, ignore_errors=True)
        self._directory = Path(tempfile.mkdtemp(prefix=f"{self.bridge}-machines-", dir=_HOME))
        self._bridge_up()
        self.metadata = MetadataServer(METADATA_ADDRESS, self._by_address, dialect, device=self.bridge)
        self.disks = Disks(self._directory / "disks", self._run_in, disk_link)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def boot(self, spec: MachineSpec) -> None:
        machine = _Machine(spec, self._directory / spec.id)
        if spec.public:
            self._publish(spec, add=True)
        with self._lock:
            if spec.id in self._machines:
                return
            self._machines[spec.id] = machine
            self._threads.append(threading.Thread(target=self._boot, args=(machine,), name=spec.id, daemon=True))
            self._threads[-1].start()

    def halt(self, machine_id: str) -> None:
        """Power off as by a stop: what runs there is asked to end, and the disk stays for the next `boot`. Returns at once."""
        with self._lock:
            machine = self._machines.pop(machine_id, None)
            if machine is None:
                return
            self._consoles[machine_id] = machine.console()
            self._halting[machine_id] = threading.Thread(target=machine.halt, name=f"halt {machine_id}", daemon=True)
            self._halting[machine_id].start()

    def _boot(self, machine: _Machine) -> None:
        if halting := self._halting.pop(machine.spec.id, None):
            halting.join()
        try:
            with self._booting:
                process = machine.boot(self.gateway.network.prefixlen, str(self.gateway.ip), self.bridge)
        except (OSError, subprocess.SubprocessError) as error:
            machine.ended = True
            print(f"machine {machine.spec.id} did not boot: {error} {getattr(error, 'stderr', '')}", file=sys.stderr)
            return
        machine.hold_disk()
        process.wait()
        if machine.ended:
            return
        if machine.spec.keeps_disk:
            with self._lock:
                self._machines.pop(machine.spec.id, None)
                self._consoles[machine.spec.id] = machine.console()
                self._off.add(machine.spec.id)
            machine.keep_disk()
        else:
            self.destroy(machine.spec.id)
        self.on_power_off(machine.spec.id)

    def destroy(self, machine_id: str) -> None:
        """Power off at once; nothing of it stays."""
        with self._lock:
            machine = self._machines.pop(machine_id, None)
            if machine:
                self._consoles[machine_id] = machine.console()
        halting = self._halting.pop(machine_id, None)
        if halting:
            halting.join()
        if halting or machine_id in self._off:
            self._off.discard(machine_id)
            shutil.rmtree(self._directory / machine_id, ignore_errors=True)
        if machine:
            if machine.spec.public:
                self._publish(machine.spec, add=False)
            self._consoles[machine_id] = machine.destroy()

    def ids(self) -> list[str]:
        with self._lock:
            return sorted(self._machines)

    def pids(self) -> list[int]:
        """One process of this host per machine: the parent of all that runs there."""
        with self._lock:
            processes = [machine.process for machine in self._machines.values()]
        return [process.pid for process in processes if process]

    def console(self, machine_id: str) -> str:
        with self._lock:
            machine = self._machines.get(machine_id)
        return machine.console() if machine else self._consoles.get(machine_id, "")

    def set_fact(self, machine_id: str, path: str, text: str) -> None:
        """What the machine's metadata service answers from now on; "" = 404."""
        with self._lock:
            self._machines[machine_id].spec.facts[path] = text

    def unplug(self, machine_id: str) -> None:
        """Network partition."""
        with self._lock:
            machine = self._machines[machine_id]
        _run("ip", "-n", machine.namespace, "link", "set", "eth0", "down")

    def close(self) -> None:
        for machine_id in self.ids():
            self.destroy(machine_id)
        for thread in [*self._threads, *self._halting.values()]:
            thread.join(60)
        self.metadata.close()
        self.disks.close()
        self._bridge_down()
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._descriptor)

    def _by_address(self, address: str) -> dict[str, str] | None:
        with self._lock:
            machine = next((m for m in self._machines.values() if m.spec.address == address), None)
            if machine is None:
                return None
            spec = machine.spec
        return {**spec.facts, **spec.fresh()}

    def _run_in(self, machine_id: str, script: str) -> bool:
        with self._lock:
            machine = self._machines.get(machine_id)
        return machine is not None and machine.run(script)

    def _publish(self, spec: MachineSpec, add: bool) -> None:
        """Its public address leads to it. A route too, for hosts without one to the Internet."""
        element = f"{{ {spec.public} : {spec.address} }}" if add else f"{{ {spec.public} }}"
        _run("nft", "add" if add else "delete", "element", "ip", self.bridge, "public", element, check=False)
        _run("ip", "route", "replace" if add else "del", spec.public, "dev", self.bridge, check=False)

    def _bridge_up(self) -> None:
        self._bridge_down()  # of a test that was killed
        # A fixed address: else it changes as machines join, and they keep a stale ARP entry for half a minute.
        _run("ip", "link", "add", self.bridge, "address", "02:00:0a:4d:00:01", "type", "bridge")
        _run("ip", "addr", "add", str(self.gateway), "dev", self.bridge)
        _run("ip", "addr", "add", f"{METADATA_ADDRESS}/32", "dev", self.bridge)
        _run("ip", "link", "set", self.bridge, "up")
        # A Docker engine drops what is forwarded, and bridged frames count as such.
        _run("iptables", "-w", "-I", "FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT", check=False)
        _run("nft", "-f", "-", text=_PUBLIC_ADDRESSES.format(bridge=self.bridge))

    def _bridge_down(self) -> None:
        _run("iptables", "-w", "-D", "FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT", check=False)
        _run("ip", "link", "del", self.bridge, check=False)
        _run("nft", "delete", "table", "ip", self.bridge, check=False)


class _Machine:
    def __init__(self, spec: MachineSpec, directory: Path) -> None:
        self.spec, self.directory = spec, directory
        self.namespace, self._veth = f"cctl-{spec.id[-10:]}", f"cc{spec.id[-10:]}"
        self.ended = False
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self._mounts: int | None = None  # its mount namespace, which so outlives its processes

    def boot(self, prefix: int, gateway: str, bridge: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self.ended:
                raise OSError("it was ended before it booted")
            (self.directory / "mnt").mkdir(parents=True, exist_ok=True)
            if self.spec.clock:
                library = str(self.directory / "wrong_clock.so")
                _run("gcc", "-shared", "-fPIC", "-O1", "-o", library, str(_SCRIPT.with_name("wrong_clock.c")))
            (self.directory / "user-data").write_bytes(self.spec.user_data)
            (self.directory / "startup").write_bytes(self.spec.startup)
            (self.directory / "hosts").write_text(self.spec.hosts)
            (self.directory / "authority").write_text(self.spec.authority)
            (self.directory / "authorized_keys").write_text(self.spec.authorized_key)
            (self.directory / "user").write_text(self.spec.user)
            self._plug_in(prefix, gateway, bridge)
            name = self.spec.hostname or f"ip-{self.spec.address.replace('.', '-')}"
            python = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
                 "--kill-child", "/bin/bash", str(_SCRIPT), str(self.directory), name, self.spec.address, python,
                 sys.prefix, str(self.spec.clock)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            # A pipe: whoever opens /dev/console in the machine adds to it, and cuts nothing off.
            threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True).start()
            return self.process

    def _listen(self, pipe: Any) -> None:
        with pipe, contextlib.suppress(OSError), (self.directory / "console.log").open("wb", buffering=0) as console:
            while text := os.read(pipe.fileno(), 65536):
                console.write(text)

    def run(self, script: str) -> bool:
        """Runs it as root in the machine's mount namespace, as soon as that is set up, with $DEV its /dev. False when it
        fails, or the machine ends first."""
        while not (self.directory / "ready").exists():
            if self.ended or (self.process and self.process.poll() is not None):
                return False
            time.sleep(0.02)
        process = self.process
        if process is None or process.poll() is not None:
            return False
        script = f"DEV={self.directory}/mnt/root/dev\n{script}"
        done = _run("nsenter", "-t", str(process.pid), "-m", "/bin/sh", "-c", script, check=False)
        return bool(done.returncode == 0)

    def _plug_in(self, prefix: int, gateway: str, bridge: str) -> None:
        veth = self._veth
        _run("ip", "netns", "add", self.namespace)
        outside = (
            f"link add {veth} type veth peer name eth0 netns {self.namespace}\nlink set {veth} master {bridge} up\n"
        )
        _run("ip", "-batch", "-", text=outside)
        inside = f"addr add {self.spec.address}/{prefix} dev eth0\nlink set lo up\nlink set eth0 up\n"
        inside += f"route add default via {gateway}\n"
        _run("ip", "-n", self.namespace, "-batch", "-", text=inside)

    def console(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "console.log").read_text(errors="replace")
        return ""

    def hold_disk(self) -> None:
        """Returns when it runs, or has ended."""
        if self.spec.keeps_disk and self.run("true"):
            with self._lock, contextlib.suppress(OSError):
                if self.process and not self.ended:
                    self._mounts = os.open(f"/proc/{self.process.pid}/ns/mnt", os.O_RDONLY)

    def keep_disk(self) -> None:
        """Of a machine whose processes have ended by themselves, as a file for the next boot."""
        with self._lock:
            if self._mounts is not None and not self.ended:
                enter = ["nsenter", f"--mount=/proc/self/fd/{self._mounts}", "/bin/sh", "-c", self._keep()]
                subprocess.run(enter, check=False, capture_output=True, pass_fds=[self._mounts])
            self.ended = True
            self._power_off()
            (self.directory / "ready").unlink(missing_ok=True)

    def _keep(self) -> str:
        return f"tar --xattrs --xattrs-include='*' -C {self.directory}/mnt/upper -cpf {self.directory}/disk.tar ."

    def halt(self) -> None:
        """Ends its processes, and keeps its disk as a file for the next boot."""
        self.ended = True
        with self._lock:
            if self.process and self.process.poll() is None:
                (init,) = psutil.Process(self.process.pid).children()
                programs = init.children(recursive=True)
                for program in programs:
                    with contextlib.suppress(psutil.Error):
                        program.terminate()
                for program in psutil.wait_procs(programs, timeout=HALT_SECONDS)[1]:
                    with contextlib.suppress(psutil.Error):
                        program.kill()
                _run("nsenter", "-t", str(self.process.pid), "-m", "/bin/sh", "-c", self._keep())
            self._power_off()
            (self.directory / "ready").unlink(missing_ok=True)

    def _power_off(self) -> None:
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)  # --kill-child takes the whole pid namespace with it
            self.process.wait()
        if self._mounts is not None:
            os.close(self._mounts)
            self._mounts = None
        _run("ip", "netns", "del", self.namespace, check=False)
        # The network namespace goes when the last of its processes has gone, and its cable with it: too late for the next boot.
        _run("ip", "link", "del", self._veth, check=False)

    def destroy(self) -> str:
        """Returns what its console said."""
        self.ended = True
        with self._lock:
            self._power_off()
            said = self.console()
            shutil.rmtree(self.directory, ignore_errors=True)
            return said


def _run(*argv: str, check: bool = True, text: str = "") -> Any:
    return subprocess.run(argv, check=check, capture_output=True, text=True, input=text)
