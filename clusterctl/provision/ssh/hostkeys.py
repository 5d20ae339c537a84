"""Host keys: a host is believed only when its key is pinned in the spec, known already, or (if the spec says so) new.

Everything is decided from the key exchange, before this side has shown who it is: an impostor gets nothing.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import paramiko

from clusterctl.provision.ssh.target import Target


class Distrusted(Exception):
    """The host's key is not the one it should be, or nobody vouches for it; the message says what to do."""


class Trust:
    """`policy`: "known_hosts" or "accept-new". `remembered` is our own file of keys that were accepted when first seen;
    the user's own known_hosts is only read. `tell` gets a loud line for each of them."""

    def __init__(self, policy: str, remembered: Path, tell: Callable[[str], None]) -> None:
        self._policy, self._remembered, self._tell = policy, remembered, tell
        self._lock = threading.Lock()
        self._known: list[tuple[str, paramiko.HostKeys]] = []
        for path in (Path("/etc/ssh/ssh_known_hosts"), Path("~/.ssh/known_hosts").expanduser(), remembered):
            if path.is_file():
                keys = paramiko.HostKeys()
                keys.load(str(path))
                self._known.append((str(path), keys))

    def kinds(self, target: Target) -> list[str]:
        """The kinds of keys that are known of a host, for the negotiation to prefer them."""
        found: list[str] = []
        for _, keys in self._known:
            found += (keys.lookup(_name(target)) or {}).keys()
        return list(dict.fromkeys(found))

    def check(self, target: Target, key: paramiko.PKey) -> None:
        """Raises Distrusted unless this is the host that is meant."""
        shown = fingerprint(key)
        if target.host_key:
            if shown != target.host_key:
                raise Distrusted(
                    f"its host key {shown} is not the one pinned in the spec ({target.host_key}): somebody may be in "
                    "between; ask who runs the host before you change `host_key`"
                )
            self._note_pinned(target, key)
            return
        name = _name(target)
        with self._lock:
            for path, keys in self._known:
                known = keys.lookup(name)
                if known is None:
                    continue
                if any(other.asbytes() == key.asbytes() for other in known.values()):
                    return
                if key.get_name() in known:
                    raise Distrusted(
                        f"its host key has CHANGED to {shown}: somebody may be in between, or it was installed anew. If you "
                        f"know that it was, remove the old key: ssh-keygen -R '{name}' -f {path}"
                    )
            if self._policy != "accept-new":
                raise Distrusted(
                    f"its host key {shown} is not known: log in once with ssh to check it, or pin it in the spec "
                    f"(host_key: {shown}), or write `auth: {{host_keys: accept-new}}`"
                )
            self._remember(name, key)
        self._tell(f"WARNING: host {target.given} was never seen before; its key {shown} is trusted from now on")

    def _note_pinned(self, target: Target, key: paramiko.PKey) -> None:
        """For `clusterctl ssh`: OpenSSH knows keys, not fingerprints."""
        with self._lock:
            known = [keys.lookup(_name(target)) or {} for _, keys in self._known]
            if not any(other.asbytes() == key.asbytes() for found in known for other in found.values()):
                self._remember(_name(target), key)

    def _remember(self, name: str, key: paramiko.PKey) -> None:
        line = f"{name} {key.get_name()} {key.get_base64()}\n"
        self._remembered.touch(mode=0o600)
        with self._remembered.open("a", encoding="ascii") as file:
            file.write(line)
        keys = paramiko.HostKeys()
        keys.load(str(self._remembered))
        self._known.append((str(self._remembered), keys))


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` writes it: SHA256:BASE64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _name(target: Target) -> str:
    return target.host if target.port == 22 else f"[{target.host}]:{target.port}"
