"""`agent.pyz --host FILE`: the daemon of a host that belongs to an inventory. It dials the head, parks, and waits to be claimed.

    parked --claim--> a node's agent is started with the claim's bootstrap --release (or its own end)--> parked

It only starts and ends agents: work, logs and the lease are theirs. An agent outlives this daemon, and is found again.

Exit codes: 2 usage, 5 the directory cannot be used. It never ends by itself: a host waits for its head for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.hardware import Hardware
from clusterctl_runtime.agent.host.claims import Claims
from clusterctl_runtime.agent.link import Link, Refused
from clusterctl_runtime.agent.mounting.record import release_all
from clusterctl_runtime.agent.repeats import Repeats
from clusterctl_runtime.agent.tasks.processes import list_family
from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import WIRE_VERSION, Bootstrap, Message

log = logging.getLogger(__name__)

INSTANCE_VARIABLE = "CLUSTERCTL_INSTANCE"  # in the environment of all that runs for a claim, so that it is found again
SILENT_FILE = "silent"  # there while no head is connected; since when, its time tells
GRACE_SECONDS = 20.0  # that an agent gets to end its work before it is killed
REFUSED_PAUSE = 10.0
FIRST_SPARE_PAUSE = 2.0  # seconds, at least, after the head was found
SPARE_PAUSE = 15.0  # seconds after a claim before the next spare is loaded: the claimed node, and its engine, go first
_RESTART_FIRST, _RESTART_LONGEST = 0.2, 10.0
_FINAL_CODES = frozenset(
    {0, 2, 3, 4, 5}
)  # ended in order, cannot start, refused, orphaned, no directory: no restart helps


class Host:
    """Implements the link's `Session`. `settings` is the host's file: uid, cluster, host, heads, ca_pem, token."""

    def __init__(self, settings: dict[str, Any], root: Path, version: str) -> None:
        self._settings, self._root, self._version = settings, root, version
        self._boot_id = os.urandom(16).hex()
        self._claims = Claims(root)
        self._hardware = Hardware(root, self._found)
        self._found_more = False
        self._changed = False
        self._refusals: dict[str, str] = {}  # token -> why it was not taken
        self._ended: dict[str, str] = {}  # instance -> the end of its agent's log
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._spare: tuple[subprocess.Popen[bytes], str] | None = None  # an agent that is loaded, and its mark
        self._bootstrap = Bootstrap(
            cluster=settings["cluster"],
            uid=settings["uid"],
            node_id=settings["host"],
            generation=0,
            heads=list(settings["heads"]),
            ca_pem=settings["ca_pem"],
            join_token=settings["token"],
            address=settings.get("address", ""),
        )
        self._link = Link(self._bootstrap, self)
        self._repeats = Repeats()

    async def run(self) -> int:
        """Returns 0 when SIGTERM or SIGINT has come. Agents of claims go on; the spare one does not."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: ended.done() or ended.set_result(None))
        (self._root / SILENT_FILE).touch(mode=0o600)
        await self._hardware.look()
        for instance, claim in list(self._claims.held.items()):
            self._look_after(instance, restart=claim["state"] == "running")
        linking = asyncio.ensure_future(self._stay_linked())
        await ended  # its agents go on: whoever wants them gone ends them first
        linking.cancel()
        self._hardware.close()
        for task in self._watched.values():
            task.cancel()
        if self._spare is not None:
            self._spare[0].kill()
        return 0

    async def _stay_linked(self) -> None:
        """A final refusal is a head that was made anew, or has taken this host off its list: it may change its mind."""
        while True:
            try:
                await self._link.run()
            except Refused as error:
                if line := self._repeats.line(f"{error}; trying again every {REFUSED_PAUSE:g} s"):
                    log.error("%s", line)
            await asyncio.sleep(REFUSED_PAUSE)

    # -- what the link asks for ---------------------------------------------------------------------------------------

    def hello(self) -> Message:
        settings = self._settings
        return {
            "t": "hello",
            "wire": WIRE_VERSION,
            "purpose": "standby",
            "uid": settings["uid"],
            "host": settings["host"],
            "secret": settings["token"],
            "boot_id": self._boot_id,
            "version": self._version,
            "facts": {**self._hardware.facts, "clock": time.time()},
            "claims": self._claims.documents(),
        }

    def welcome(self, message: Message) -> None:
        """Parked: from now on its head looks after it. Soon it pays to have an agent loaded; not at once, and not on all
        hosts at the same moment."""
        pause = FIRST_SPARE_PAUSE * (1 + random.random())
        asyncio.get_running_loop().call_later(pause, self._start_spare)
        (self._root / SILENT_FILE).unlink(missing_ok=True)

    def parted(self) -> None:
        """SILENT_FILE tells from now on since when no head is here."""
        with contextlib.suppress(OSError):  # `down` may have removed the directory
            (self._root / SILENT_FILE).touch(mode=0o600)

    def outgoing(self) -> list[Message]:
        """All claims, whenever something has changed; refusals and ends are said once."""
        if not self._changed:
            return []
        self._changed = False
        message: Message = {
            "t": "claims",
            "items": self._claims.documents(),
            "refused": self._refusals,
            "ended": self._ended,
        }
        if self._found_more:
            message["facts"] = self._hardware.facts
        self._refusals, self._ended, self._found_more = {}, {}, False
        return [message]

    def vitals(self) -> Message:
        return {}

    def next_log(self) -> tuple[Message, bytes] | None:
        return None

    def receive(self, message: Message) -> None:
        """A claim or a release, either of which may come twice. All claims are told afterwards."""
        kind = message["t"]
        if kind == "claim":
            self._claim(message["claim"])
        elif kind == "release":
            self._release(str(message["instance"]))
        self._tell()

    def _found(self) -> None:
        self._found_more = True
        self._tell()

    def _tell(self) -> None:
        self._changed = True
        self._link.wake()

    # -- claims -------------------------------------------------------------------------------------------------------

    def _claim(self, claim: Message) -> None:
        """Idempotent: the same token is the same claim, and one that has ended is refused for good."""
        instance, token = str(claim["instance"]), str(claim["token"])
        if instance in self._claims.held:
            return
        if self._claims.is_used(token):
            self._refusals[token] = "this launch has already ended on this host"
            return
        role = claim.get("role", "worker")
        other = next((c for c in self._claims.held.values() if c.get("role", "worker") == role), None)
        if other is not None:
            self._refusals[token] = f"this host is already claimed for node {other['node_id']}"
            return
        self._claims.take(claim)
        self._look_after(instance, restart=True)

    def _release(self, instance: str) -> None:
        if instance in self._claims.held and self._claims.held[instance]["state"] != "stopping":
            self._claims.end(instance)
            pid = self._agent_pid(instance)
            if pid:
                _signal(pid, signal.SIGTERM)
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._kill_agent, instance)

    def _kill_agent(self, instance: str) -> None:
        pid = self._agent_pid(instance) if instance in self._claims.held else 0
        if pid:
            _signal(pid, signal.SIGKILL)

    def _look_after(self, instance: str, restart: bool) -> None:
        process = self._start(instance) if restart and not self._agent_pid(instance) else None
        self._watched[instance] = asyncio.ensure_future(self._watch(instance, process))

    async def _watch(self, instance: str, process: subprocess.Popen[bytes] | None) -> None:
        """Until the claim has ended: its agent is started again when it crashes."""
        pauses = Backoff(_RESTART_FIRST, _RESTART_LONGEST)
        while True:
            code = await self._end_of(instance, process)
            if self._claims.held[instance]["state"] == "stopping" or code in _FINAL_CODES:
                break
            log.warning("the agent of %s ended with %s: starting it again", instance, code)
            await asyncio.sleep(pauses.next())
            if self._claims.held[instance]["state"] == "stopping":
                break
            process = self._start(instance)
        if self._claims.held[instance]["state"] != "stopping":
            self._claims.end(instance)
        await asyncio.get_running_loop().run_in_executor(None, end_marked, instance)
        self._ended[instance] = self._claims.console(instance)
        directory = self._claims.node_directory(self._claims.held[instance])
        for text in await asyncio.get_running_loop().run_in_executor(None, release_all, directory):
            log.warning("%s", text)
        self._claims.forget(instance)
        del self._watched[instance]
        self._start_spare()
        self._tell()

    async def _end_of(self, instance: str, process: subprocess.Popen[bytes] | None) -> int | None:
        """The agent's exit code; None when it is not our child, or runs no more already."""
        pid = process.pid if process else self._agent_pid(instance)
        if not pid:
            return None
        await _until_ended(pid)
        return process.wait() if process else None

    def _start(self, instance: str) -> subprocess.Popen[bytes]:
        """The claim's agent: the spare one, or a new one where there is none."""
        process, mark = self._use_spare(instance) or self._start_new(instance)
        write_private(self._claims.pid_file(instance), f"{process.pid} {mark}")
        return process

    def _use_spare(self, instance: str) -> tuple[subprocess.Popen[bytes], str] | None:
        spare, self._spare = self._spare, None
        asyncio.get_running_loop().call_later(SPARE_PAUSE, self._start_spare)
        if spare is None or spare[0].poll() is not None:
            return None
        process, _ = spare
        order = {
            "bootstrap": str(self._claims.bootstrap_file(instance)),
            "log": str(self._claims.log_file(instance)),
            "instance": instance,
        }
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.close()
        except OSError:
            return None
        return spare

    def _start_spare(self) -> None:
        """Loads an agent in advance, unless there is one or the host has its own way of starting agents."""
        if self._spare is not None or self._settings.get("agent_argv"):
            return
        mark = f"{self._root / 'nodes'}/spare-{os.urandom(8).hex()}"
        process = subprocess.Popen(
            [sys.executable, "-I", sys.argv[0], "--spare", mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._root,
            start_new_session=True,
        )
        self._spare = (process, mark)

    def _start_new(self, instance: str) -> tuple[subprocess.Popen[bytes], str]:
        argv = self._settings.get("agent_argv") or [sys.executable, "-I", sys.argv[0], "--bootstrap"]
        bootstrap_file = str(self._claims.bootstrap_file(instance))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._claims.log_file(instance), flags, 0o600)
        try:
            process = subprocess.Popen(
                [*argv, bootstrap_file],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._root,
                env={**os.environ, INSTANCE_VARIABLE: instance},
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        return process, bootstrap_file

    def _agent_pid(self, instance: str) -> int:
        """The pid of the claim's living agent, or 0. Believed only when its command line has the claim's mark."""
        try:
            pid, _, mark = self._claims.pid_file(instance).read_text().partition(" ")
            arguments = Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return int(pid) if os.fsencode(mark) in arguments else 0


def end_marked(instance: str) -> None:
    """Kills whatever was started for an instance, until two looks in a row find none: nothing outlives a claim."""
    mark, quiet, deadline = f"{INSTANCE_VARIABLE}={instance}\0", 0, time.monotonic() + 30
    while quiet < 2 and time.monotonic() < deadline:
        found, _ = list_family(mark, set(), os.getsid(0))
        for pid in found:
            _signal(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.02)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


async def _until_ended(pid: int) -> None:
    """Returns when the process has ended; it may be anyone's child."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def serve(host_file: Path, version: str) -> int:
    """The process' main function."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.umask(0o077)
    try:
        settings = json.loads(host_file.read_text())
    except (OSError, ValueError) as error:
        print(f"{host_file} is not a host's file: {error}", file=sys.stderr)
        return 2
    try:
        lock = take(host_file.parent / "standby.lock")
    except LockHeld:
        print(f"another standby agent runs in {host_file.parent}: end it first", file=sys.stderr)
        return 5
    except OSError as error:
        print(f"the host's directory {host_file.parent} cannot be used: {error}", file=sys.stderr)
        return 5

    async def live() -> int:
        return await Host(settings, host_file.parent, version).run()

    with lock:
        return asyncio.run(live())
