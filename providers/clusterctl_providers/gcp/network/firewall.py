"""The firewall rules of a cluster: all traffic among its nodes, port 22 of its head and the one that agents dial from where the
spec says, and from nowhere else.

They hold for network tags: every node carries the cluster's, the head a second one. A rule has sources of one kind of
address, so that each port takes two. Rules have no labels; whose they are stands in their description (`owner`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.base import HeadMachine
from clusterctl_providers.cloud import addresses
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import is_missing, is_taken
from clusterctl_providers.gcp.network.owner import NotOurs, Owner, owner_of

LAST = 600.0  # seconds that rules are believed to be there: nothing fails where one was deleted, but nodes do not join
WHO_AM_I = "https://checkip.amazonaws.com"  # Google has no such service; this one is a cloud's as well, and has TLS
KINDS = ("inside", "ssh", "ssh6", "shut", "agents", "agents6")
# After our own rules and those that a user writes, and before those that Google gives the network `default`.
SHUT = 1001
OURS = 'name eq "clusterctl-.*"'


class Firewall:
    """Thread-safe. `part` names what is the cluster's: part("inside"). `project` is that of the network, which is another's where
    it is shared; `network` a link to it, `ranges` the CIDRs of its subnetworks: asked for when they are needed."""

    def __init__(
        self,
        calls: Calls,
        owner: Callable[[], Owner],
        part: Callable[..., str],
        project: Callable[[], str],
        network: Callable[[], str],
        ranges: Callable[[], Iterable[str]],
        ssh_from: Sequence[str] | None,
        head: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls, self._owner, self._part = calls, owner, part
        self._project, self._network, self._ranges = project, network, ranges
        self._ssh_from = ssh_from  # None: who may reach port 22 is not for us to say
        self._head = head  # None: nor who reaches the head's
        self._clock = clock
        self._until = 0.0
        self._lock = threading.RLock()

    @property
    def tag(self) -> str:
        """Of every node."""
        return self._part()

    @property
    def head_tag(self) -> str:
        return self._part("head")

    def ensure(self, *, fresh: bool = False) -> None:
        """Makes what is missing, and mends what was changed: a process that made one rule may have died before the next."""
        with self._lock:
            if self._clock() < self._until and not fresh:
                return
            words = None if self._ssh_from is None else [str(word) for word in self._ssh_from]
            sources = None if words is None else addresses.ssh_sources(words, own_address, self._ranges)
            everything = {"allowed": [{"IPProtocol": "all"}]}
            self._rule("inside", {**everything, "sourceTags": [self.tag], "targetTags": [self.tag]})
            if sources is not None:
                self._open_ssh(sources)
            if self._head is not None and self._head.port:
                self._open("agents", self._head.port, self._head.open_to)
            self._until = self._clock() + LAST

    def _open_ssh(self, wanted: set[str]) -> None:
        """Port 22 is open to `wanted` and to nobody else: not to where this machine was yesterday."""
        self._open("ssh", 22, wanted)
        port = {"denied": [{"IPProtocol": "tcp", "ports": ["22"]}], "sourceRanges": ["0.0.0.0/0"]}
        self._rule("shut", {**port, "priority": SHUT, "targetTags": [self.tag]})

    def _open(self, rule: str, port: int, wanted: Iterable[str]) -> None:
        """The head's port is open to `wanted` and to nobody else."""
        four, six = ([source for source in wanted if (":" in source) is v6] for v6 in (False, True))
        for kind, sources in ((rule, four), (f"{rule}6", six)):
            if sources:
                allowed = {"allowed": [{"IPProtocol": "tcp", "ports": [str(port)]}], "targetTags": [self.head_tag]}
                self._rule(kind, {**allowed, "sourceRanges": sorted(sources)})
            else:
                self._close(kind)

    def _rule(self, kind: str, wanted: Mapping[str, Any]) -> None:
        name = self._part(kind)
        found = self._find(name)
        if found is None:
            body = {
                "name": name,
                "description": self._owner().note,
                "network": self._network(),
                "direction": "INGRESS",
                **wanted,
            }
            try:
                self._calls.run("POST", self._path(), f"making the firewall rule {name}", body)
                return
            except ProviderError as error:
                if not is_taken(error) or (found := self._find(name)) is None:  # another process was faster
                    raise
        if found.get("disabled") or any(_plain(found.get(key)) != _plain(value) for key, value in wanted.items()):
            what = f"mending the firewall rule {name}"
            self._calls.run("PATCH", self._path(name), what, {"name": name, "disabled": False, **wanted})

    def _close(self, kind: str) -> None:
        name = self._part(kind)
        try:
            if self._find(name) is not None:
                self._calls.run("DELETE", self._path(name), f"removing the firewall rule {name}")
        except ProviderError as error:
            if not is_missing(error):
                raise

    def _find(self, name: str) -> dict[str, Any] | None:
        """The rule of that name, None for none. Raises NotOurs where it is somebody else's."""
        try:
            found = self._calls.get(self._path(name), f"looking for the firewall rule {name}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._owner().check(found, f"a firewall rule {name}")
        return found

    def mine(self) -> list[tuple[str, str]]:
        """(path, name) of the rules that are there."""
        found: list[tuple[str, str]] = []
        for name in map(self._part, KINDS):
            with contextlib.suppress(NotOurs):
                if self._find(name) is not None:
                    found.append((self._path(name), name))
        return found

    def owners(self, region: str) -> Iterator[Owner]:
        """Of all rules of clusters of this region that the network's project has."""
        for page in self._calls.pages(self._path(), "looking for firewall rules of clusters", filter=OURS):
            for row in page.get("items") or ():
                found = owner_of(row)
                if found is not None and found.region == region:
                    yield found

    def forget(self) -> None:
        """They are looked for anew before the next launch."""
        self._until = 0.0

    def _path(self, name: str = "") -> str:
        return f"projects/{self._project()}/global/firewalls{f'/{name}' if name else ''}"


def _plain(value: Any) -> Any:
    """Comparable: of Google's answer the order of lists says nothing."""
    if isinstance(value, list | tuple):
        return sorted((_plain(item) for item in value), key=repr)
    return sorted((key, _plain(item)) for key, item in value.items()) if isinstance(value, dict) else value


def own_address() -> str:
    """The public address from which this machine reaches Google Cloud."""
    return addresses.own_address(WHO_AM_I, "provider: {gcp: {ssh_from: [...]}}")
