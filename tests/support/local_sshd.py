"""OpenSSH's server on 127.0.0.1, for this very user, with a configuration and a home of its own: cheap, and as real as any."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from clusterctl.provision.ssh.hostkeys import Trust
from clusterctl.provision.ssh.target import Target
from tests.support.cluster import wait_until


class LocalSshd:
    """`lines`: of its sshd_config. `home` is that of who logs in, with login files that a test may write; `key` lets in."""

    def __init__(self, directory: Path, *lines: str, address: str = "127.0.0.1") -> None:
        self.directory, self.address = directory, address
        self.home, self.key = directory / "home", directory / "key"
        (self.home / ".ssh").mkdir(parents=True)
        for name in ("key", "host_key"):
            keygen("-t", "ed25519", "-N", "", "-f", str(directory / name))
        shutil.copy(f"{self.key}.pub", directory / "authorized_keys")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as free:
            free.bind(socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][4])
            self.port = int(free.getsockname()[1])
        written = f"[{address}]" if ":" in address else address
        (directory / "config").write_text(
            "".join(f"{line}\n" for line in lines) +
            f"ListenAddress {written}:{self.port}\nHostKey {directory}/host_key\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nPermitRootLogin yes\nLogLevel VERBOSE\n"
            f"SetEnv HOME={self.home} USER={self.user}\nSubsystem sftp internal-sftp\n"
        )  # fmt: skip

    def __enter__(self) -> LocalSshd:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "these tests need OpenSSH's server: apt-get install openssh-server"
        with (self.directory / "log").open("ab") as log:
            argv = [program, "-D", "-e", "-f", str(self.directory / "config")]
            self._process = subprocess.Popen(argv, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: "Server listening" in self.log() or self._process.poll() is not None, what="sshd listens")
        assert self._process.poll() is None, self.log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(60)

    @property
    def user(self) -> str:
        return getpass.getuser()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def dials(self) -> int:
        return self.log().count("Connection from ")

    def target(self, **changes: Any) -> Target:
        """How to log in to it as a spec would say."""
        plain = Target(
            "it",
            self.address,
            self.port,
            self.user,
            (str(self.key),),
            all_of_agent=False,
            known_hosts=(),
            options=("-F", "none"),
        )
        return replace(plain, **changes)

    def trust(self, policy: str = "accept-new", told: Callable[[str], None] = lambda _: None) -> Trust:
        return Trust(policy, self.directory / "known_hosts", told)

    @property
    def host_key(self) -> str:
        """As in a file of known hosts, without names."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])


def keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, stdin=subprocess.DEVNULL)
