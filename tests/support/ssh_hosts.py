"""Hosts to reach by SSH: containers with sshd, each with an address of its own on a network of their own."""

from __future__ import annotations

import base64
import io
import secrets
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from tests.support.docker_engine import LABEL, DockerEngine, base_image, remove_labelled

# What systemd needs as process 1 of a container that shares its kernel's cgroups (version 1, as here, or 2).
SYSTEMD: dict[str, Any] = {
    "command": "/sbin/init",
    "init": False,
    "cap_add": ["SYS_ADMIN"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "environment": {"container": "docker"},
    "tmpfs": {"/run": "mode=0755", "/run/lock": "mode=0755", "/tmp": "mode=1777"},
    "volumes": {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
}
USERS = {"admin": 1000, "tester": 1001}  # name -> uid and gid in the image


@dataclass(frozen=True)
class SshHost:
    """One host. `host_key` is "ssh-ed25519 BASE64", the same for as long as the host exists."""

    name: str
    address: str
    host_key: str
    key_path: Path
    container: Any
    network: Any
    port: int = 22

    @property
    def known_hosts_line(self) -> str:
        return f"{self.address} {self.host_key}"

    def pause(self) -> None:
        """It hangs: connections stay open and nothing answers."""
        self.container.pause()

    def unpause(self) -> None:
        self.container.unpause()

    def stop(self) -> None:
        """Power off: every process ends at once; the disk stays."""
        self.container.kill()
        self.container.wait()

    def start(self) -> None:
        """Boots it again, with the same address, keys and disk."""
        self.container.start()

    def disconnect(self) -> None:
        """Pulls the network cable."""
        self.network.disconnect(self.container)

    def connect(self) -> None:
        self.network.connect(self.container, ipv4_address=self.address)

    def lose(self, address: str) -> None:
        """What it sends there is lost from now on, and nobody is told; what comes from there still comes. Needs a host that was
        started with NET_ADMIN."""
        self.run("ip", "route", "add", "blackhole", f"{address}/32")

    def deliver(self, address: str) -> None:
        """What it sends there arrives again."""
        self.run("ip", "route", "del", "blackhole", f"{address}/32")

    def run(self, *argv: str, user: str = "root") -> str:
        """Runs a command on it past SSH and returns its output; raises AssertionError when it fails."""
        code, output = self.container.exec_run(list(argv), user=user)
        assert code == 0, f"{argv} on {self.name} ended with {code}: {output.decode(errors='replace')}"
        return output.decode(errors="replace")

    def write(self, path: str, data: bytes, mode: int = 0o644, user: str = "root") -> None:
        directory, _, name = path.rpartition("/")
        self.container.put_archive(directory or "/", _archive({name: (data, mode, USERS.get(user, 0))}))

    def client(self, user: str = "admin", timeout: float = 60.0) -> paramiko.SSHClient:
        """A connection to it, for tests that look at the host themselves."""
        client = paramiko.SSHClient()
        kind, text = self.host_key.split()
        client.get_host_keys().add(self.address, kind, paramiko.Ed25519Key(data=_decoded(text)))
        try:
            client.connect(
                self.address, self.port, user,
                key_filename=str(self.key_path), timeout=timeout, banner_timeout=timeout, auth_timeout=timeout,
                allow_agent=False, look_for_keys=False,
            )  # fmt: skip
        except BaseException:
            client.close()
            raise
        return client


class SshHosts:
    """Some hosts, removed with their network when it is closed. `directory` gets the users' private key (0600)."""

    def __init__(self, engine: DockerEngine, directory: Path) -> None:
        self.engine = engine
        self.label = secrets.token_hex(4)
        self.key_path = directory / f"id_ed25519-{self.label}"
        private, self.public_key = new_key()
        self.key_path.touch(mode=0o600)
        self.key_path.write_bytes(private)
        self.hosts: list[SshHost] = []
        self.network, self.subnet = _own_network(engine, self.label)

    def __enter__(self) -> SshHosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, count: int, volumes: Mapping[str, dict[str, str]] | None = None, **options: Any) -> list[SshHost]:
        """Starts `count` more hosts and waits until their sshd answers. `volumes` and `options` as the SDK's create has
        them."""
        first = len(self.hosts)
        image = base_image(self.engine)
        new = [self._make(first + n, image, volumes or {}, options) for n in range(count)]
        self.hosts += new
        wait_for_sshd(new)
        return new

    def known_hosts(self, path: Path) -> Path:
        path.write_text("".join(f"{host.known_hosts_line}\n" for host in self.hosts))
        return path

    def close(self) -> None:
        remove_labelled(self.engine.client, f"{LABEL}={self.label}")
        self.key_path.unlink(missing_ok=True)

    def _make(
        self, number: int, image: str, volumes: Mapping[str, dict[str, str]], options: Mapping[str, Any]
    ) -> SshHost:
        api = self.engine.client.api
        name = f"host-{self.label}-{number + 1}"
        address = f"{self.subnet.rpartition('.')[0]}.{number + 10}"
        container = self.engine.client.containers.create(
            image,
            name=name,
            hostname=f"host{number + 1}",
            labels={LABEL: self.label},
            network=self.network.name,
            networking_config={self.network.name: api.create_endpoint_config(ipv4_address=address)},
            volumes=dict(volumes),
            # /run is empty after every boot, as cron's @reboot needs it
            **{"init": True, "tmpfs": {"/run": "mode=0755"}, **options},
        )
        private, public = new_key()
        container.put_archive("/etc/ssh", _archive({
            "ssh_host_ed25519_key": (private, 0o600, 0),
            "ssh_host_ed25519_key.pub": (f"{public}\n".encode(), 0o644, 0),
        }))  # fmt: skip
        for user, uid in USERS.items():
            keys = {"authorized_keys": (f"{self.public_key}\n".encode(), 0o600, uid)}
            container.put_archive(f"/home/{user}/.ssh", _archive(keys))
        container.start()
        return SshHost(name, address, public, self.key_path, container, self.network)


def wait_for_sshd(hosts: Sequence[SshHost], seconds: float = 60.0) -> None:
    """Returns when every host lets a user in; raises what the last try met."""
    deadline = time.monotonic() + seconds
    for host in hosts:
        while True:
            try:
                host.client().close()
                break
            except (paramiko.SSHException, OSError, EOFError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def new_key() -> tuple[bytes, str]:
    """An ed25519 key: (private in OpenSSH's form, public as "ssh-ed25519 BASE64")."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public.decode()


def _own_network(engine: DockerEngine, label: str) -> tuple[Any, str]:
    """A /24 that nobody uses: fixed addresses need a subnet that was asked for."""
    for _ in range(50):
        subnet = f"10.213.{secrets.randbelow(256)}.0/24"
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        try:
            network = engine.client.networks.create(f"hosts-{label}", labels={LABEL: label}, ipam=ipam)
        except APIError as error:
            if "overlaps" not in str(error):
                raise
        else:
            return network, subnet.partition("/")[0]
    raise AssertionError("no free subnet below 10.213.0.0/16: remove old networks with the label clusterctl-test")


def _archive(files: Mapping[str, tuple[bytes, int, int]]) -> bytes:
    """A tar archive of name -> (content, mode, owner)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode, owner) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            entry.mtime = int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)


def start_with_environment(hosts: SshHosts, count: int, **options: Any) -> list[SshHost]:
    """Hosts that see this very environment and its interpreter under the same paths, as machines with Ray pre-installed do."""
    places = {str(Path(sys.prefix)), str(Path(sys.base_prefix))}
    volumes = {place: {"bind": place, "mode": "ro"} for place in places}
    new = hosts.start(count, volumes=volumes, shm_size="512m", **options)
    above = sorted({str(parent) for place in places for parent in Path(place).parents[:-1]})
    for host in new:
        host.run("chmod", "a+x", *above)
    return new
