"""Logging in to the head's instance for the first time: keys that are ours, a host key that serves once, and the ways there.

The private half of the first host key travels in the instance's user data, where whoever may read the instance's
attributes can read it. So it is good for one login: over that very connection the machine makes another key, which is
pinned here before it takes the first one's place. See docs/adr/0502.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.head import tunnels
from clusterctl.client.nodes.machines import head_machine, known_hosts, open_hosts, save_machines, saved_machines
from clusterctl.client.registry import Cluster, read_json
from clusterctl.client.up.way_in import WayIn
from clusterctl.core.errors import Unreachable
from clusterctl.provision.ssh.connection import Connection, HostTrouble
from clusterctl.provision.ssh.dialing import Patience
from clusterctl.provision.ssh.inventory import Login, Machine

if TYPE_CHECKING:
    from clusterctl_providers.base import HeadDisk, HeadMachine, Whereabouts

    from clusterctl.core.model import Node
    from clusterctl.provision.ssh.hosts import Bundle, Hosts, Reached
    from clusterctl.spec.parts import Auth

STATE_DIRECTORY = ".clusterctl-host"  # in the user's home: all that a cluster has on a host
FIRST_LOGIN_SECONDS = 300.0
DISK_SECONDS = 120.0
LOOK_SECONDS = 0.3
_BOOTING = Patience(connect=5.0)  # what was sent to a machine without a network yet is sent again soon
_LASTING = frozenset(
    {"login", "no_key", "no_name", "no_keys_taken", "second_factor", "no_algorithm"}
)  # troubles that no waiting mends, once a machine has booted
_LASTING_AFTER = 60.0


@dataclass(frozen=True)
class HostKey:
    """An SSH host key: OpenSSH's text of the private half, and the fingerprint of the public one."""

    private: str
    fingerprint: str


class Keys:
    """The keys of one cluster, below its own directory."""

    def __init__(self, cluster: Cluster, auth: Auth) -> None:
        self._directory = cluster.directory / "ssh"
        self._given = auth.key

    def are_here(self) -> bool:
        """Whether an `up` from this home has launched a head, or was about to."""
        return self._directory.is_dir()

    def login_key(self) -> str:
        """The user's, else one that is minted for the cluster."""
        if self._given:
            return self._given
        path = make_private_dir(self._directory) / "id_ed25519"
        if not path.exists():
            write_private(path, _mint()[0])
        return str(path)

    def host_key(self, node: Node) -> HostKey:
        """The one that comes with the user data of this generation of the head; the same again until it has served."""
        path = make_private_dir(self._directory) / f"host-{node.id}-{node.generation}"
        if not path.exists():
            write_private(path, _mint()[0])
        text = path.read_text()
        return HostKey(text, fingerprint_of(_public(text)))

    def forget_host_keys(self) -> None:
        """The next machine gets others."""
        for path in self._directory.glob("host-*"):
            path.unlink()


def _mint() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return private.decode(), _public(private.decode())


def _public(private: str) -> str:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(private.encode(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def fingerprint_of(public: str) -> str:
    """As `ssh-keygen -l` prints it, of a line such as "ssh-ed25519 AAAA..."."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class FirstLogin:
    """To an instance; see `HeadLogin`. `options`: see `save_machines`."""

    def __init__(
        self, cluster: Cluster, auth: Auth, way: WayIn, options: dict[str, Any], tell: Callable[[str], None]
    ) -> None:
        self._cluster, self._auth, self._way = cluster, auth, way
        self._options, self._tell = options, tell
        self._told = False
        self.keys = Keys(cluster, auth)

    def check(self) -> None:
        self._way.check()

    def is_begun(self) -> bool:
        return self.keys.are_here()

    def auth(self) -> dict[str, Any]:
        return {"key": self.keys.login_key()}

    def head_machine(self, machine: HeadMachine) -> HeadMachine:
        return replace(machine, public=self._way.reach.public, ssh_from=self._way.ssh_from)

    def for_bootstrap(self, node: Node) -> dict[str, Any]:
        """The host key for the first login."""
        return {"head": {"host_key": self.keys.host_key(node).private}}

    def machine(self, node: Node, where: Whereabouts) -> Machine:
        """How the instance is logged in to, kept for the tunnel and for later commands."""
        kept = self._pins(node)
        pin = kept.get("pin") or self.keys.host_key(node).fingerprint
        port = self._auth.port or 22
        command = self._way.command(node.instance_id, port)
        login = Login(
            host=self._way.host(node.instance_id, where),
            user=where.user or self._auth.user or self._way.user,
            port=port,
            key=self.keys.login_key(),
            jump="" if command else self._auth.jump,
            host_key=pin,
            command=command,
        )
        machine = Machine(node.id, login, head=True)
        if saved_machines(self._cluster.directory) != [machine]:
            tunnels.stop(self._cluster)  # it may lead to a machine that is gone
        save_machines(self._cluster.directory, [machine], self._options)
        return machine

    # ------------------------------------------------------------ the host key

    def _pins(self, node: Node) -> dict[str, Any]:
        """What is known of this generation's host key: {"pin"}, and {"done"} once nothing else is accepted."""
        kept = read_json(self._cluster.directory / "host-key.json")
        return kept if kept.get("of") == [node.id, node.generation] else {}

    def _pin(self, node: Node, pin: str, *, done: bool) -> Machine:
        document = {"of": [node.id, node.generation], "pin": pin, "done": done}
        write_private(self._cluster.directory / "host-key.json", json.dumps(document))
        known_hosts(self._cluster.directory).unlink(
            missing_ok=True
        )  # the key of before is believed no more, by ssh neither
        machine = head_machine(self._cluster.directory)
        machine = replace(machine, login=replace(machine.login, host_key=pin))
        save_machines(self._cluster.directory, [machine], self._options)
        return machine

    def wait(self, node: Node, machine: Machine, console: Callable[[], str]) -> Machine:
        """Until the machine can be logged in to with a key that nobody else ever had. Returns it with that key's pin. Raises
        Unreachable with the end of its console."""
        if self._pins(node).get("done"):
            self._connect(machine, console).close()
            return machine
        first = self.keys.host_key(node).fingerprint
        connection = self._connect(machine, console, other_pin=first)
        try:
            fresh = str(connection.ask_as_root({"do": "next_host_key"})["public"])
            machine = self._pin(
                node, fingerprint_of(fresh), done=False
            )  # before it is in force: it is accepted from now on
            connection.ask_as_root({"do": "use_next_host_key"})
        finally:
            connection.close()
        self._connect(machine, console).close()
        machine = self._pin(node, fingerprint_of(fresh), done=True)
        self.keys.forget_host_keys()
        return machine

    def _connect(self, machine: Machine, console: Callable[[], str], other_pin: str = "") -> Connection:
        """Patiently, since a machine that boots refuses, is silent, or shows the key of its image. With `other_pin` that one
        is accepted as well."""
        pins = list(dict.fromkeys(pin for pin in (machine.login.host_key, other_pin) if pin))
        began = time.monotonic()
        while True:
            trouble: HostTrouble | None = None
            for pin in pins:
                try:
                    hosts = open_hosts(self._cluster.directory, self._tell, [machine])
                    return hosts.connect(replace(machine, login=replace(machine.login, host_key=pin)), _BOOTING)
                except HostTrouble as error:
                    trouble = error if trouble is None or trouble.code == "host_key" else trouble
            assert trouble is not None
            waited = time.monotonic() - began
            if waited > FIRST_LOGIN_SECONDS or (trouble.code in _LASTING and waited > _LASTING_AFTER):
                raise Unreachable(_never_came(machine, trouble, waited, console(), self._way.provider))
            if not self._told:
                self._told = True
                self._tell(f"waiting for SSH on {machine.id} ({machine.login.host})")
            time.sleep(LOOK_SECONDS)

    # ------------------------------------------------------------ the disk

    def with_disk(self, hosts: Hosts, reached: Reached, bundle: Bundle, disk: HeadDisk) -> tuple[Reached, bool]:
        """It is mounted, and what the first look saw lay below it."""
        assert reached.connection is not None
        blank = self._mount(reached.machine, reached.connection, disk)
        reached.connection.close()
        again = hosts.look(reached.machine, bundle)
        if again.trouble is not None:
            raise again.trouble
        return again, not blank

    def _mount(self, machine: Machine, connection: Connection, disk: HeadDisk) -> bool:
        """Whether the disk was blank, and so has no state of an earlier head."""
        request = {
            "do": "mount_disk",
            "paths": list(disk.paths),
            "user": machine.login.user,
            "directory": STATE_DIRECTORY,
            "seconds": DISK_SECONDS,
        }
        return bool(connection.ask_as_root(request, timeout=DISK_SECONDS + 330)["made"])


def _never_came(machine: Machine, trouble: HostTrouble, waited: float, console: str, provider: str) -> str:
    lines = [f"  {line}" for line in console.strip().splitlines()[-25:]]
    shown = ["The end of its console:", *lines] if lines else ["Its console is empty so far."]
    return "\n".join(
        [
            f"the head's machine {machine.id} could not be logged in to within {waited:.0f} s: {trouble}",
            *shown,
            "`up` again goes on waiting, `down` ends it. `ssh_from` and `reach` of "
            f"`provider: {{{provider}: ...}}` say how it is reached",
        ]
    )
