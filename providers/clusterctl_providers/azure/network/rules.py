"""The network security group of a cluster: all traffic among its nodes; port 22 of its head, and the one that agents dial, from
where the spec says; nothing else from the virtual network, into which Azure's own rules let everybody who is in it, or
connected to it.

Whose machine it is, two application security groups say: the cluster's, and its head's. So the rules hold in a subnet that is
shared with others too. Rules that somebody adds to the group stay as they are, and hold before the last one of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.base import HeadMachine
from clusterctl_providers.cloud import addresses

LAST = 600.0  # seconds that rules are believed to be there
WHO_AM_I = "https://checkip.amazonaws.com"  # Azure has no such service; this one is a cloud's as well, and has TLS
INSIDE, SSH, AGENTS, SHUT = "clusterctl-inside", "clusterctl-ssh", "clusterctl-agents", "clusterctl-shut"
_PRIORITIES = {
    INSIDE: 1000,
    SSH: 1001,
    AGENTS: 1002,
    SHUT: 4096,
}  # the last one is the lowest that a rule of a user's may have
_CHANGED = "PreconditionFailed"  # somebody else was faster
TRIES = 4

Rule = dict[str, Any]


class Rules:
    """Thread-safe. `part` names what is the cluster's: part("rules"). `ranges` are the CIDRs of its virtual network, asked for
    when they are needed. `ssh_from` is None where who may reach port 22 is not for us to say."""

    def __init__(
        self,
        calls: Calls,
        group: ResourceGroup,
        part: Callable[..., str],
        ranges: Callable[[], Iterable[str]],
        ssh_from: Sequence[str] | None,
        given: str = "",
        clock: Callable[[], float] = time.monotonic,
        head: HeadMachine | None = None,
    ) -> None:
        """`given`: the id of a security group whose rules are the user's, "" for one of the cluster's own. `head` says who may
        dial its port from elsewhere; None leaves that as it is."""
        self._calls, self._group, self._part, self._ranges = calls, group, part, ranges
        self._ssh_from, self._given, self._clock, self._head = ssh_from, given, clock, head
        self._until = 0.0
        self._lock = threading.RLock()

    @property
    def id(self) -> str:
        """Of the network security group."""
        return self._given or self._group.path("Microsoft.Network", "networkSecurityGroups", self._part("rules"))

    def members(self, *, head: bool = False) -> tuple[str, ...]:
        """Ids of the application security groups that a node is in."""
        if self._given:
            return ()
        return (self._members("nodes"), *([self._members("head")] if head else []))

    def _members(self, kind: str) -> str:
        return self._group.path("Microsoft.Network", "applicationSecurityGroups", self._part(kind))

    def ensure(self, *, fresh: bool = False) -> None:
        """Makes what is missing, and mends what was changed."""
        with self._lock:
            if self._clock() < self._until and not fresh:
                return
            if self._given:
                self._check_given()
            else:
                sources = self._sources()
                for path in self.members(head=True):
                    self._make_members(path)
                self._mend(sources)
            self._until = self._clock() + LAST

    def forget(self) -> None:
        """They are looked for anew before the next launch."""
        self._until = 0.0

    def _sources(self) -> list[str] | None:
        if self._ssh_from is None:
            return None
        words = [str(word) for word in self._ssh_from]
        found = addresses.ssh_sources(words, own_address, self._ranges)
        if six := sorted(source for source in found if ":" in source):
            raise BadRequest(
                f"`ssh_from` has {', '.join(six)}, and the machines of a cluster on Azure have IPv4 addresses alone: name IPv4 "
                "addresses and networks"
            )
        return sorted(found)

    def _check_given(self) -> None:
        name = self._given.rpartition("/")[2]
        try:
            found = self._calls.get(self._given, f"looking for the network security group {name}")
        except ProviderError as error:
            if is_missing(error):
                raise BadRequest(
                    f"there is no network security group {self._given}: mend `security_group` of `provider: {{azure: ...}}`, or "
                    "leave it out"
                ) from error.__cause__
            raise
        if str(found.get("location")) != self._calls.region:
            raise BadRequest(
                f"the network security group {name} is in {found.get('location')}, and machines in {self._calls.region} take "
                "one of their own region: name another under `security_group`"
            )

    def _make_members(self, path: str) -> None:
        name = path.rpartition("/")[2]
        if self._find(path, f"an application security group {name}") is None:
            body = {"location": self._calls.region, "tags": self._group.tags(), "properties": {}}
            self._calls.run("PUT", path, f"making the application security group {name}", body)

    def _find(self, path: str, thing: str) -> dict[str, Any] | None:
        """None for none. Raises NotOurs where it is somebody else's."""
        try:
            found = self._calls.get(path, f"looking for {thing}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._group.owner().check(found, thing)
        return found

    def _mend(self, sources: list[str] | None) -> None:
        """Written as a whole, under the version that was read: what others write meanwhile is read again."""
        name, path = self._part("rules"), self.id
        for left in reversed(range(TRIES)):
            found = self._find(path, f"a network security group {name}")
            there: list[Rule] = list(((found or {}).get("properties") or {}).get("securityRules") or ())
            wanted = self._wanted(sources, there)
            if found is not None and not _differs(there, wanted):
                return
            body = {
                "location": self._calls.region,
                "tags": (found or {}).get("tags") or self._group.tags(),
                "properties": {"securityRules": _merged(there, wanted)},
            }
            headers = {"If-Match": str(found["etag"])} if found and found.get("etag") else {}
            what = f"{'mending' if found else 'making'} the network security group {name}"
            try:
                self._calls.run("PUT", path, what, body, headers)
                return
            except ProviderError as error:
                if not left or code_behind(error) != _CHANGED:
                    raise

    def _wanted(self, sources: list[str] | None, there: Sequence[Rule]) -> dict[str, Rule | None]:
        """By name; None for one that must not be there."""
        nodes, head = self._members("nodes"), self._members("head")
        everything = {"protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*"}
        to_nodes = {"destinationApplicationSecurityGroups": [{"id": nodes}]}
        wanted: dict[str, Rule | None] = {
            INSIDE: {"access": "Allow", **everything, "sourceApplicationSecurityGroups": [{"id": nodes}], **to_nodes},
            SHUT: {"access": "Deny", **everything, "sourceAddressPrefix": "VirtualNetwork", **to_nodes},
        }
        if sources is not None:
            wanted[SSH] = _opened(22, sources, head)
        if self._head is not None and self._head.port:
            four = sorted(source for source in self._head.open_to if ":" not in source)  # it has no other address
            wanted[AGENTS] = _opened(self._head.port, four, head)
        for name, rule in wanted.items():
            if rule is not None:
                rule |= {"direction": "Inbound", "priority": _PRIORITIES[name]}
        return wanted


def _opened(port: int, sources: Sequence[str], members: str) -> Rule | None:
    """To nobody else."""
    if not sources:
        return None
    to = {"destinationPortRange": str(port), "destinationApplicationSecurityGroups": [{"id": members}]}
    return {"access": "Allow", "protocol": "Tcp", "sourcePortRange": "*", "sourceAddressPrefixes": list(sources), **to}


def _differs(there: Sequence[Rule], wanted: Mapping[str, Rule | None]) -> bool:
    known = {str(rule.get("name")): rule.get("properties") or {} for rule in there}
    return any(
        (name in known) if rule is None else _plain(_only(known.get(name, {}), rule)) != _plain(rule)
        for name, rule in wanted.items()
    )


def _only(found: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, Any]:
    """What Azure says of these members, and of those by which the same rule would mean something else."""
    sources = {key for key in found if key.startswith(("source", "destination")) and found[key] not in ([], None)}
    return {key: found.get(key) for key in {*rule, *(key for key in sources if "Port" not in key)}}


def _merged(there: Sequence[Rule], wanted: Mapping[str, Rule | None]) -> list[Rule]:
    others = [
        {"name": rule["name"], "properties": _writable(rule["properties"])}
        for rule in there
        if rule.get("name") not in wanted
    ]
    return others + [{"name": name, "properties": rule} for name, rule in wanted.items() if rule is not None]


def _writable(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key != "provisioningState"}


def _plain(value: Any) -> Any:
    """Comparable: of Azure's answer the order of lists says nothing, nor does the case of ids."""
    if isinstance(value, list | tuple):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, dict):
        return sorted((key, _plain(item)) for key, item in value.items())
    return value.lower() if isinstance(value, str) else value


def own_address() -> str:
    """The public address from which this machine reaches Azure."""
    return addresses.own_address(WHO_AM_I, "provider: {azure: {ssh_from: [...]}}")
