"""How to log in to a host: what the spec says, then `~/.ssh/config`, then OpenSSH's own defaults."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko

from clusterctl.core.errors import UsageError
from clusterctl.provision.ssh.inventory import Login, parse_login

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True)
class Target:
    """All that a connection needs. `jumps` are to be passed in turn; `given` is the name as written, for messages."""

    given: str
    host: str
    port: int
    user: str
    keys: tuple[str, ...]
    jumps: tuple[Target, ...] = ()
    host_key: str = ""
    use_agent: bool = True
    command: str = ""  # ProxyCommand


class Config:
    """An OpenSSH client configuration; empty where there is no file."""

    def __init__(self, path: str = "") -> None:
        file = Path(path or "~/.ssh/config").expanduser()
        if path and not file.is_file():
            raise UsageError(f"the SSH configuration {file} cannot be read: check `provider: {{ssh: {{config: ...}}}}`")
        try:
            self._config = paramiko.SSHConfig.from_path(str(file)) if file.is_file() else paramiko.SSHConfig()
        except (OSError, paramiko.SSHException, ValueError) as error:
            raise UsageError(f"the SSH configuration {file} cannot be understood: {error}") from error

    def target(self, login: Login, _seen: tuple[str, ...] = ()) -> Target:
        """Where `login` leads. Raises UsageError for a jump that leads back to itself."""
        if login.host in _seen:
            raise UsageError(f"the jump hosts of {_seen[0]} lead in a circle: {' -> '.join((*_seen, login.host))}")
        found = self._config.lookup(login.host)
        keys = (login.key,) if login.key else tuple(found.get("identityfile") or ())
        own = [f"~/.ssh/{name}" for name in DEFAULT_KEYS] if not keys else []
        paths = [Path(key).expanduser() for key in (*keys, *own)]
        jumps = login.jump or found.get("proxyjump") or ""
        hops = [parse_login(hop.strip()) for hop in jumps.split(",")] if jumps and jumps.lower() != "none" else []
        command = login.command or ("" if hops else str(found.get("proxycommand") or ""))
        return Target(
            given=login.host,
            host=str(found.get("hostname") or login.host),
            port=login.port or int(found.get("port") or 22),
            user=login.user or str(found.get("user") or "") or getpass.getuser(),
            keys=tuple(str(path) for path in paths if login.key or path.is_file()),
            jumps=tuple(self.target(self._with_key(hop, login.key), (*_seen, login.host)) for hop in hops),
            host_key=login.host_key,
            use_agent=not login.key and str(found.get("identitiesonly") or "no") != "yes",
            command="" if command.lower() == "none" else command,
        )

    def _with_key(self, hop: Login, key: str) -> Login:
        """A jump host that the configuration gives no key of its own is logged in to with that of the host behind it."""
        return hop if self._config.lookup(hop.host).get("identityfile") else replace(hop, key=key)
