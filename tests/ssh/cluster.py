"""A cluster on hosts reached by SSH, as a user has one: a home with keys and known hosts, and the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusterctl.client.registry import read_json
from tests.support.cluster import LocalCluster, wait_until, with_packages
from tests.support.ssh_hosts import SshHost

USER = "tester"
ROOT = f"/home/{USER}/.clusterctl-host"


class SshCluster(LocalCluster):
    """`write` puts a spec of these hosts in place; anything of it can be set."""

    def __init__(self, directory: Path, hosts: Sequence[SshHost], name: str = "demo", user: str = USER) -> None:
        super().__init__(directory, "", name)
        with_packages(self.home)
        self.user = user
        self.hosts = list(hosts)
        self.user_home = directory / "user"
        (self.user_home / ".ssh").mkdir(parents=True)
        (self.user_home / ".ssh" / "known_hosts").write_text("".join(f"{h.known_hosts_line}\n" for h in hosts))
        self.env["HOME"] = str(self.user_home)
        self.env.pop("SSH_AUTH_SOCK", None)
        self.write()

    def write(
        self,
        entries: Sequence[str] = (),
        *,
        low: int = 0,
        pool: str = "idle_timeout: 1s",
        more: str = "engine: none",
        auth: str = "",
    ) -> None:
        listed = ", ".join(entries or [host.address for host in self.hosts])
        self.spec.write_text(
            f"cluster: {self.name}\nprovider: ssh\nauth: {{user: {self.user}, key: {self.hosts[0].key_path}{auth}}}\n{more}\n"
            f"pools:\n  - {{name: cpu, min: {low}, max: 8, hosts: [{listed}], resources: {{CPU: 1}}, {pool}}}\n"
        )

    @property
    def place(self) -> Path:
        return self.home / "clusters" / self.name

    def head_log(self, size: int = 3000) -> str:
        try:
            return self.hosts[0].run("tail", "-c", str(size), f"/home/{self.user}/.clusterctl-host/head/head.log")
        except AssertionError:
            return "(no head.log)"

    def api_hosts(self) -> dict[str, dict[str, Any]]:
        """Hosts by their id, as the head has them."""
        return {host["id"]: host for host in self.look("/api/v1/hosts")["hosts"]}

    def clean_up(self) -> None:
        self.end_looks()
        for host in self.hosts:
            host.container.reload()
            if host.container.status == "paused":
                host.unpause()
        self.cli("down", self.name, "-y", code=None)
        pid = int(read_json(self.place / "tunnel.json").get("pid") or 0)
        if pid:
            os.kill(pid, signal.SIGTERM)
        for host in self.hosts:
            clean_host(host)


@contextmanager
def sshd_option(host: SshHost, line: str, files: dict[str, bytes]) -> Iterator[None]:
    """The host's sshd has one more option, and files below /etc/ssh, for as long."""

    def reload() -> None:
        before = host.container.logs().count(b"Server listening on 0.0.0.0")
        host.run("sh", "-c", "kill -HUP $(cat /run/sshd.pid)")
        wait_until(lambda: host.container.logs().count(b"Server listening on 0.0.0.0") > before, what="it listens")

    for name, data in files.items():
        host.write(f"/etc/ssh/{name}", data)
    host.write("/etc/ssh/sshd_config.d/more.conf", f"{line}\n".encode())
    try:
        reload()
        yield
    finally:
        host.run("rm", "/etc/ssh/sshd_config.d/more.conf", *(f"/etc/ssh/{name}" for name in files))
        reload()


def traces(host: SshHost) -> list[str]:
    """What is left of clusterctl on a host: processes, files, lines of crontabs, units."""
    found = host.run(
        "sh", "-c",
        "ps -eo user,args | grep -E 'clusterctl|agent-.*pyz' | grep -v grep; ls -d /home/*/.clusterctl* 2>/dev/null;"
        "crontab -l -u tester 2>/dev/null; crontab -l -u admin 2>/dev/null; ls /etc/systemd/system | grep clusterctl; true",
    )  # fmt: skip
    return [line for line in found.splitlines() if line.strip()]


def clean_host(host: SshHost) -> None:
    """Whatever a failed test left."""
    host.run(
        "sh", "-c",
        "for p in $(ps -eo pid,args | grep -E 'agent-.*pyz|clusterctl' | grep -v grep | awk '{print $1}'); do"
        " kill -9 $p 2>/dev/null; done; rm -rf /home/*/.clusterctl-host;"
        "crontab -r -u tester 2>/dev/null; crontab -r -u admin 2>/dev/null; true",
    )  # fmt: skip
