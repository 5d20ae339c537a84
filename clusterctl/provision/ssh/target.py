"""How to log in to a host: what the spec says, then the user's SSH configuration, then OpenSSH's own defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from clusterctl_providers.this_machine import user_name

from clusterctl.core.errors import UsageError
from clusterctl.provision.ssh.inventory import Login, parse_login
from clusterctl.provision.ssh.openssh import Configuration, Words, fill_in, in_home

Filled = Callable[[str], str]
DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True)
class Target:
    """All that a connection needs. `jumps` are to be passed in turn; `given` is the name as written, for messages."""

    given: str
    host: str
    port: int
    user: str
    keys: tuple[str, ...]  # files with private keys, or with public ones whose private half ssh-agent has
    jumps: tuple[Target, ...] = ()
    host_key: str = ""
    all_of_agent: bool = True  # else only those keys of ssh-agent that `keys` name
    command: str = ""  # ProxyCommand
    agent: str = ""  # ssh-agent's socket
    certificates: tuple[str, ...] = ()
    alias: str = ""  # the name by which its host key is known, if it is not that of the host
    known_hosts: tuple[str, ...] = KNOWN_HOSTS  # files
    options: tuple[str, ...] = ()  # by which OpenSSH's own programs read the same configuration
    beyond: tuple[str, ...] = ()  # what the configuration has for logging in that only OpenSSH's own client can do
    provider: str = ""  # that lets programs be begun there, at `place`, without SSH
    place: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)


def login_target(login: Login) -> Target:
    """Of a machine on which its provider begins programs: no SSH configuration is read."""
    return Target(login.host, login.host, 0, "", (), provider=login.provider, place=login.place)


class Config:
    """An OpenSSH client configuration; empty where there is no file."""

    def __init__(self, path: str = "") -> None:
        self._configuration = Configuration(path)

    def target(self, login: Login, _seen: tuple[str, ...] = ()) -> Target:
        """Where `login` leads. Raises UsageError for a jump that leads back to itself."""
        if login.provider:
            return login_target(login)
        if login.host in _seen:
            raise UsageError(f"the jump hosts of {_seen[0]} lead in a circle: {' -> '.join((*_seen, login.host))}")
        found = self._configuration.lookup(login.host, login.user, login.port or 0)
        host = _first(found, "hostname") or login.host
        port = login.port or int(_first(found, "port") or 22)
        user = login.user or _first(found, "user") or user_name()

        def filled(text: str) -> str:
            return fill_in(text, given=login.host, host=host, port=port, user=user)

        jumps = login.jump or _first(found, "proxyjump")
        hops = [parse_login(hop.strip()) for hop in jumps.split(",")] if jumps and jumps.lower() != "none" else []
        command = "" if hops else _first(found, "proxycommand")
        return Target(
            given=login.host,
            host=host,
            port=port,
            user=user,
            keys=tuple(_keys(login, found, filled)),
            jumps=tuple(self.target(self._with_key(hop, login.key), (*_seen, login.host)) for hop in hops),
            host_key=login.host_key,
            all_of_agent=not login.key and _first(found, "identitiesonly") != "yes",
            command=login.command or ("" if command.lower() == "none" else filled(command)),
            agent=_agent(found, filled),
            certificates=tuple(_path(filled(path)) for path in found.get("certificatefile", ())),
            alias=_first(found, "hostkeyalias"),
            known_hosts=tuple(_known_hosts(found, filled)),
            options=tuple(self._configuration.options),
            beyond=tuple(_beyond(found)),
        )

    def _with_key(self, hop: Login, key: str) -> Login:
        """A jump host that the configuration gives no key of its own is logged in to with that of the host behind it."""
        named = self._configuration.lookup(hop.host, hop.user, hop.port or 0).get("identityfile", [])
        own = [
            path for path in named if path not in {f"~/.ssh/{name}" for name in (*DEFAULT_KEYS, "id_dsa", "id_xmss")}
        ]
        return hop if own else replace(hop, key=key)


def _keys(login: Login, found: Words, filled: Filled) -> list[str]:
    """The spec's key is believed to be there; of the others those that are, if only with their public half."""
    if login.key:
        return [_path(login.key)]
    named = found.get("identityfile") or [f"~/.ssh/{name}" for name in DEFAULT_KEYS]
    paths = [_path(filled(path)) for path in named]
    return [path for path in paths if Path(path).is_file() or Path(f"{path}.pub").is_file()]


def _agent(found: Words, filled: Filled) -> str:
    """IdentityAgent: a socket, "none", or the name of a variable."""
    said = _first(found, "identityagent") or "SSH_AUTH_SOCK"
    if said.lower() == "none":
        return ""
    if said == "SSH_AUTH_SOCK":
        return os.environ.get(said, "")
    return os.environ.get(said[1:], "") if said.startswith("$") else _path(filled(said))


def _beyond(found: Words) -> Iterator[str]:
    """Keys on tokens, and tickets where there is one: distributions switch their use on for everybody."""
    if _first(found, "pkcs11provider") not in ("", "none"):
        yield "PKCS11Provider"
    if any(path.endswith("_sk") for path in found.get("identityfile", ()) if Path(_path(path)).is_file()):
        yield "a security key"
    if _first(found, "hostbasedauthentication") == "yes":
        yield "HostbasedAuthentication"
    if _first(found, "gssapiauthentication") == "yes" and _has_ticket():
        yield "GSSAPIAuthentication"


def _has_ticket() -> bool:
    return "KRB5CCNAME" in os.environ or Path(f"/tmp/krb5cc_{os.getuid()}").exists()  # noqa: S108  Kerberos' own place


def _known_hosts(found: Words, filled: Filled) -> list[str]:
    named = " ".join([_first(found, "userknownhostsfile"), _first(found, "globalknownhostsfile")]).split()
    return [in_home(_path(filled(path))) for path in named or KNOWN_HOSTS if path != "none"]


def _path(text: str) -> str:
    return str(Path(text).expanduser())


def _first(found: Words, name: str) -> str:
    return next(iter(found.get(name, ())), "").strip('"')
