"""The machines of a spec: inline lists, ranges such as `node[01-16].lab`, inventory files; each with how to log in to it.

An inventory file has one host per line ("user@host:port", or a range), `#` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.core.errors import UsageError
from clusterctl.spec.host_ranges import RANGE, expand

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec
    from clusterctl.spec.parts import Auth
    from clusterctl.spec.pool import Host

# No part begins with "-": it would be an option of the ssh command.
_ENTRY = re.compile(
    r"(?:(?P<user>[^@\s-][^@\s]*)@)?"
    r"(?P<host>\[[^]\[@\s-][^]\[@\s]*\]|[^]\[:@\s-][^]\[:@\s]*|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:%[^]\[:@\s]+)?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


# What OpenSSH refuses, too: the user's configuration may have names in ProxyCommand and Match exec, which a shell runs.
_NO_HOST = re.compile(r"""[\s'"`$\\;&<>|(){},\x00-\x1f\x7f]""")
_NO_USER = re.compile(r"""['"`;&<>|(){}\x00-\x1f\x7f]|\$.|\s-|\\\Z""")


@dataclass(frozen=True)
class Login:
    """A machine as the spec names it. Empty fields are filled from `~/.ssh/config` and defaults (see `target`). Raises
    UsageError for a host or user with characters that mean something to a shell. `provider`: begins programs there without
    SSH; `place` is what it finds the machine by, names only, and nothing else but `host` counts then."""

    host: str
    user: str = ""
    port: int | None = None
    key: str = ""
    jump: str = ""
    host_key: str = ""
    command: str = (
        ""  # a shell's words for a program whose stdin and stdout lead to the SSH server, instead of a connection
    )
    provider: str = ""
    place: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    def __post_init__(self) -> None:
        for what, text, never in (("host", self.host, _NO_HOST), ("user", self.user, _NO_USER)):
            found = re.match("-", text) or never.search(text)
            if found:
                raise UsageError(
                    f"no {what} can be called {text!r}: {found.group()!r} would mean something to ssh or a shell"
                )


@dataclass(frozen=True)
class Machine:
    """One machine of the inventory. `id` names it in messages and books; `pools` are those that it may serve."""

    id: str
    login: Login
    pools: tuple[str, ...] = ()
    head: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)


def read_inventory(spec: ClusterSpec, directory: Path) -> list[Machine]:
    """Every machine once, in the order of the spec, the head's marked. `directory` is where inventory files are looked for.
    Raises UsageError."""
    machines: dict[str, Machine] = {}
    for pool in spec.pools:
        for entry in _entries(pool.hosts, directory):
            machine = _machine(entry, spec.auth)
            known = machines.get(machine.id)
            if known is None:
                machines[machine.id] = replace(machine, pools=(pool.name,))
            elif pool.name not in known.pools:
                machines[machine.id] = replace(known, pools=(*known.pools, pool.name))
    if spec.head.host is not None:
        head = _machine(spec.head.host, spec.auth)
        known = machines.get(head.id, head)
        return [replace(known, head=True), *(m for m in machines.values() if m.id != head.id)]
    if not machines:
        raise UsageError("the spec names no machine: list some under `hosts` of a pool")
    first, *others = machines.values()
    return [replace(first, head=True), *others]


def _entries(hosts: str | list[str | Host] | None, directory: Path) -> Iterator[str | Host]:
    if hosts is None:
        return
    if isinstance(hosts, str):
        yield from _file(Path(hosts).expanduser(), directory)
        return
    for entry in hosts:
        if isinstance(entry, str):
            yield from expand(entry)
        else:
            for name in expand(entry.host):
                yield entry.model_copy(update={"host": name})


def _file(path: Path, directory: Path) -> Iterator[str]:
    place = path if path.is_absolute() else directory / path
    try:
        text = place.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the inventory {place} cannot be read ({error.strerror}): check its path and mode") from error
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            if not _ENTRY.fullmatch(RANGE.sub("0", entry)):
                raise UsageError(f"{place}:{number}: {entry!r} is no host: write one per line, as user@host:port")
            yield from expand(entry)


def parse_login(text: str) -> Login:
    """ "user@host:port", where user and port may be left out. Raises UsageError."""
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no host: write it as user@host:port")
    port = match["port"]
    return Login(match["host"].strip("[]"), match["user"] or "", int(port) if port else None)


def _machine(entry: str | Host, auth: Auth) -> Machine:
    if isinstance(entry, str):
        login, labels, resources = parse_login(entry), {}, {}
    else:
        named = parse_login(entry.host)
        login = Login(
            named.host, entry.user or named.user, entry.port or named.port, entry.key, entry.jump, entry.host_key
        )
        labels, resources = dict(entry.labels), dict(entry.resources)
    filled = replace(
        login,
        user=login.user or auth.user,
        port=login.port or auth.port,
        key=login.key or auth.key,
        jump=login.jump or auth.jump,
    )
    own_port = login.port not in (None, 22)
    host = f"[{login.host}]" if own_port and ":" in login.host else login.host
    return Machine(f"{host}:{login.port}" if own_port else host, filled, labels=labels, resources=resources)
