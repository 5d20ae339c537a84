"""All hosts of an inventory at once: reach them, judge what is there, install, remove. One thread and one connection per host."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from clusterctl.provision.ssh.connection import Connection, HostTrouble, connect
from clusterctl.provision.ssh.dialing import Patience
from clusterctl.provision.ssh.gateways import Gateways
from clusterctl.provision.ssh.hostkeys import Trust
from clusterctl.provision.ssh.inventory import Machine
from clusterctl.provision.ssh.target import Config, Target

AT_ONCE = 64
LOOK_SECONDS = 1.0
SKEW_SECONDS = 120.0
LEAST_DISK = 200 * 1024**2
LEAST_PROCESSES, LEAST_PROCESSES_ENGINE = 64, 512  # processes and threads; Ray has hundreds
RAY_FLOOR = (2, 56)
Removed = tuple[Machine, "dict[str, Any] | None", "HostTrouble | None"]


@dataclass
class Bundle:
    """The agent's one file."""

    digest: str
    data: bytes

    @property
    def name(self) -> str:
        """Its file name on a host."""
        return f"agent-{self.digest}.pyz"

    def facts_source(self) -> bytes:
        """The agent's reading of facts, to be run before it is installed."""
        with zipfile.ZipFile(BytesIO(self.data)) as archive:
            return archive.read("clusterctl_runtime/agent/facts.py")


@dataclass
class HeadEndpoint:
    """Where the head listens for agents, and what they pin."""

    addresses: list[str]
    port: int
    ca_pem: str

    @property
    def heads(self) -> list[str]:
        """ "host:port" of each address, as agents dial them in turn."""
        return [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in self.addresses]


@dataclass
class Reached:
    """One host after this `up` has been to it. `entry` is its row for the head; `trouble` says why it is left out."""

    machine: Machine
    trouble: HostTrouble | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    connection: Connection | None = None
    boot: str = ""

    @property
    def id(self) -> str:
        """The host's id in the inventory."""
        return self.machine.id


class Hosts:
    """`uid` and `cluster` say whose the hosts are to be; keys that were accepted when first seen are kept in `remembered`."""

    def __init__(
        self,
        cluster: str,
        uid: str,
        machines: Iterable[Machine],
        remembered: Path,
        tell: Callable[[str], None],
        *,
        config: str = "",
        host_keys: str = "known_hosts",
        engine: bool = False,
        engine_python: str = "",
    ) -> None:
        self.cluster, self.uid = cluster, uid
        self.machines = list(machines)
        self._tell = tell
        self._config = Config(config)
        self._trust = Trust(host_keys, remembered, tell)
        self._gateways = Gateways()
        self._engine, self._engine_python = engine, engine_python

    def target(self, machine: Machine) -> Target:
        """Where to dial, by the user's SSH configuration."""
        return self._config.target(machine.login)

    def connect(self, machine: Machine, patience: Patience | None = None) -> Connection:
        """Raises HostTrouble."""
        return connect(self.target(machine), self._trust, patience, self._gateways)

    def each(
        self,
        work: Callable[[Machine], Any],
        machines: Iterable[Machine] | None = None,
        meanwhile: Callable[[list[Machine]], None] = lambda unfinished: None,
    ) -> list[Any]:
        """`work` for every machine, 64 at once; results in their order. `meanwhile` is called about once a second with those
        that are not done yet."""
        chosen = self.machines if machines is None else list(machines)
        if not chosen:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(chosen)), thread_name_prefix="ssh") as pool:
            futures = {pool.submit(work, machine): machine for machine in chosen}
            while unfinished := [machine for future, machine in futures.items() if not future.done()]:
                meanwhile(unfinished)
                wait(futures, LOOK_SECONDS)
            return [future.result() for future in futures]

    # ------------------------------------------------------------ looking

    def look(self, machine: Machine, bundle: Bundle) -> Reached:
        """Connects and reads what is there. Never raises HostTrouble: it is in the answer."""
        reached = Reached(machine)
        try:
            reached.connection = self.connect(machine)
            began = time.time()
            request = {"do": "probe", "engine_python": self._engine_python}
            reached.facts = reached.connection.ask(request, bundle.facts_source())
            self._judge(reached, began, time.time())
        except HostTrouble as error:
            reached.trouble = error
        return reached

    def _judge(self, reached: Reached, began: float, ended: float) -> None:
        """Raises HostTrouble for a host that cannot serve, with the fix."""
        facts = reached.facts
        owner = facts.get("owner") or {}
        if owner and owner.get("uid") != self.uid:
            raise HostTrouble(
                "claimed",
                f"it belongs to cluster {owner.get('cluster')!r} ({str(owner.get('uid'))[:8]}): take that one down first "
                f"(`clusterctl down {owner.get('cluster')}`), or remove {facts['directory']} there when it is long gone",
            )
        skew = facts["clock"] - (began + ended) / 2
        if abs(skew) > SKEW_SECONDS + (ended - began):
            raise HostTrouble(
                "clock",
                f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}: set it and keep it so "
                "(apt install chrony)",
            )
        self._judge_home(reached)
        left, least = facts["processes_left"], LEAST_PROCESSES_ENGINE if self._engine else LEAST_PROCESSES
        if left is not None and left < least:
            raise HostTrouble(
                "processes",
                f"its user may start {left} more processes and threads, and at least {least} are needed: end some, or raise the "
                "limit (`ulimit -u` shows it; nproc in /etc/security/limits.conf)",
            )
        if facts["disk_free"] < LEAST_DISK:
            raise HostTrouble(
                "disk",
                f"it has {facts['disk_free'] / 2**20:.0f} MiB of disk left for its user: free at least 200 MiB there",
            )

    def _judge_home(self, reached: Reached) -> None:
        facts = reached.facts
        if "ro" in facts["mounted"]:
            raise HostTrouble(
                "read_only",
                "the home directory of its user is mounted read-only: mount it for writing (after an error of the disk, "
                "`dmesg` there tells)",
            )
        runs_programs = reached.machine.head or (self._engine and not self._engine_python)
        if "noexec" in facts["mounted"] and runs_programs:
            raise HostTrouble(
                "noexec",
                f"the home directory of its user is mounted noexec and does not let programs run, as "
                f"{'the head' if reached.machine.head else 'Ray'} there has to: mount it without `noexec`, or set `auth: {{user: "
                "...}}` to one whose home is elsewhere",
            )
        if not facts["writable"]:
            raise HostTrouble(
                "home", "the home directory of its user is not writable: mend its mode, or take another user"
            )

    def judge_engine(self, reached: Reached, like: dict[str, Any] | None = None) -> None:
        """Raises HostTrouble unless the host can run the engine that the head's machine, `like`, runs: pickles do not pass
        between minor versions of Python, and where the spec names an interpreter its Ray must be there, and the same."""
        if not self._engine_python:
            self._judge_python(reached, like)
            return
        found, python = reached.facts.get("engine") or {}, self._engine_python
        if found.get("error"):
            raise HostTrouble("no_engine", f"{python} does not run there ({found['error']}): set engine.ray.python")
        version = str(found.get("ray") or "")
        if not version or not found.get("default"):
            raise HostTrouble(
                "no_ray", f"{python} has no Ray there: {python} -m pip install 'ray[default]', or write `engine: none`"
            )
        if tuple(int(part) for part in version.split(".")[:2]) < RAY_FLOOR:
            floor = ".".join(map(str, RAY_FLOOR))
            raise HostTrouble(
                "old_ray",
                f"Ray {version} of {python} there is too old to be trusted with tokens: install {floor} or newer",
            )
        if like and (version, _minor(found)) != (like.get("ray"), _minor(like)):
            raise HostTrouble(
                "engine_mismatch",
                f"it has Ray {version} on Python {found['python']}, the head {like.get('ray')} on {like.get('python')}: "
                "install the same on both (the minor version of Python counts)",
            )

    def _judge_python(self, reached: Reached, like: dict[str, Any] | None) -> None:
        """Ray will be installed for the host's own Python."""
        if self._engine and like and _minor(reached.facts) != _minor(like):
            raise HostTrouble(
                "engine_mismatch",
                f"it has Python {reached.facts['python']}, the head {like.get('python')}, and Ray needs the same minor version "
                "everywhere: install that one there, or set engine.ray.python",
            )

    # ------------------------------------------------------------ installing

    def plan_install(
        self, reached: Reached, bundle: Bundle, endpoint: HeadEndpoint, known: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes] | None:
        """What would make the host's daemon run and dial the head: a request and its blob, None where all is in place.
        `known` is the host's row of the last time. The row of this time says by which token it will be known."""
        reached.entry.update(bundle=bundle.digest, heads=endpoint.heads, ca_sha256=_digest(endpoint.ca_pem))
        if self._is_installed(reached, known):
            reached.entry.update({key: known[key] for key in ("token_sha256", "settings_sha256")})
            return None
        token = secrets.token_urlsafe(32)
        settings = {
            "uid": self.uid,
            "cluster": self.cluster,
            "host": reached.id,
            "heads": endpoint.heads,
            "ca_pem": endpoint.ca_pem,
            "token": token,
        }
        reached.entry["token_sha256"] = hashlib.sha256(token.encode()).hexdigest()
        reached.entry["settings_sha256"] = _digest(settings)
        request = {
            **self.owner,
            "do": "install",
            "bundle": bundle.digest,
            "settings": settings,
            "before": reached.facts["host"],
        }
        return request, b"" if bundle.name in reached.facts["bundles"] else bundle.data

    def _is_installed(self, reached: Reached, known: dict[str, Any]) -> bool:
        facts, entry = reached.facts, reached.entry
        return (
            "standby" in facts["kept"]
            and facts["host"] == reached.id
            and f"agent-{entry['bundle']}.pyz" in facts["bundles"]
            and facts["settings_sha256"] == known.get("settings_sha256")
            and all(known.get(key) == entry[key] for key in ("bundle", "heads", "ca_sha256"))
        )

    @property
    def owner(self) -> dict[str, str]:
        """What is written on a host that this cluster takes."""
        return {"uid": self.uid, "cluster": self.cluster}

    # ------------------------------------------------------------ removing

    def remove_former(self, machine: Machine) -> Removed:
        """The same as `remove`, unless the machine is a host of the cluster under another name by now."""
        return self.remove(machine, host=machine.id)

    def remove(self, machine: Machine, **more: str) -> Removed:
        """Ends and removes all of the cluster on one host; what is left is in the answer."""
        connection = None
        try:
            connection = self.connect(machine)
            return machine, connection.ask({**self.owner, **more, "do": "remove"}, timeout=120), None
        except HostTrouble as error:
            return machine, None, error
        finally:
            if connection is not None:
                connection.close()

    def sweep(self, machine: Machine) -> str:
        """Removes what no machine has any more of the cluster in the home that this one has, once every host is clean; what
        is left of it, in a sentence."""
        connection = None
        try:
            connection = self.connect(machine)
            return ", ".join(connection.ask({**self.owner, "do": "sweep"}, timeout=120)["left"])
        except HostTrouble as error:
            return str(error)
        finally:
            if connection is not None:
                connection.close()


class GroupWriter:
    """Many threads change a document, one at a time writes it out; `flush` returns when what was there before it is written."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._wanted = threading.Lock()
        self._version = self._written = 0

    def flush(self) -> None:
        """Returns when the document, as it was when this was called, is written."""
        with self._wanted:
            self._version += 1
            mine = self._version
        with self._lock:
            if self._written >= mine:
                return
            with self._wanted:
                now = self._version
            self._write()
            self._written = now


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _minor(engine: dict[str, Any]) -> str:
    return str(engine.get("python") or "").rpartition(".")[0]
