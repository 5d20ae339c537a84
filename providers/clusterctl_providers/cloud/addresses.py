"""Who may reach port 22 of a cluster's machines: the words of `ssh_from` as networks, and what of a firewall has to change.

AWS           rules of the cluster's security group; `vpc` = the CIDRs of its VPC
Google Cloud  sourceRanges of a firewall rule with the cluster's network tag; `vpc` = the ranges of the network's subnetworks
Azure         rules of the cluster's network security group; `vpc` = the address space of the virtual network
"""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Callable, Iterable

from clusterctl.core.errors import BadRequest, ProviderError

ME, VPC = "me", "vpc"
SECONDS = 10.0  # for whoever is asked for our address


def ssh_sources(words: Iterable[str], me: Callable[[], str], vpc: Callable[[], Iterable[str]]) -> set[str]:
    """The words as CIDRs of either kind: an address, a network, `me` for this machine as the internet sees it, `vpc` for the
    networks of the cluster's own. Raises BadRequest for what is none of these."""
    found: set[str] = set()
    for word in words:
        found |= {*vpc()} if word == VPC else {cidr(me() if word == ME else word)}
    return found


def cidr(text: str) -> str:
    """An address, or a network whose host bits may be set, as a CIDR. Raises BadRequest for anything else."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise BadRequest(f"`ssh_from` has {text!r}, which is no address, no network, not `me` and not `vpc`") from None


def own_address(url: str, setting: str) -> str:
    """The address from which this machine reaches the cloud, as `url` tells it. `setting`: where to write it down where that
    fails."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  an address of the cloud package's own
            return answer.read(100).decode().strip()
    except (OSError, ValueError) as error:
        raise ProviderError(
            f"the address of this machine could not be found out at {url} ({error}); write it under `{setting}`"
        ) from error
