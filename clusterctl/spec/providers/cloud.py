"""What every cloud has, in the same words: settings, what changing them takes, and ways to the head that need no cloud's help."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clusterctl.spec.base import Size, SpecModel
from clusterctl.spec.providers.kind import Change, Reach

PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
ME = "me"  # in `ssh_from`: this machine's public address

WAYS = {
    "public": Reach(public=True, opens=(ME,)),
    "private": Reach(public=False, opens=PRIVATE_NETWORKS),
}
# Of the settings of every cloud. Those that say where instances are found, and where they find their head, are fixed.
CHANGES: dict[str, Change] = {
    "region": "refused",
    "head_address": "refused",
    "head_volume": "refused",
    "endpoint_url": "refused",
    "reach": "in-place",  # these two are about how the client gets to the head
    "ssh_from": "in-place",
    "tags": "in-place",
    "calls_per_second": "in-place",
}
HERE_ONLY = frozenset({"ssh_from"})


class CloudSettings(SpecModel):
    """Nodes are instances of a cloud."""

    region: str = Field(default="", description="Region.")
    head_address: str = Field(
        default="",
        description="Address of this machine that nodes reach: then the head runs here, in their network or connected to it, "
        "and not on an instance.",
        examples=["10.0.0.5"],
    )
    ssh_from: list[str] = Field(
        default=[],
        description="Addresses and networks that may reach port 22, and no others; `me` is this machine's public address. "
        "Default: `me` where the head is reached at a public address, private networks where it is reached at its private one, "
        "none where it runs on a machine of yours.",
    )
    reach: Literal["public", "private"] = Field(
        default="public",
        description="How this machine gets to the head's instance: by its public address, or by its private one (a VPN, or "
        "`auth.jump`).",
    )
    head_volume: Size = Field(
        default=20 * 1024**3, description="Size of the head's own volume: its job queue, logs and uploaded files."
    )
    tags: dict[str, str] = Field(default={}, description="Tags for everything that is created, besides ours.")
    calls_per_second: Annotated[float, Field(gt=0)] = Field(
        default=5, description="Calls to the cloud per second at most; the account's other programs need some as well."
    )
    endpoint_url: str = Field(default="", description="Another endpoint than the cloud's own, for stand-ins.")

    def billed_at_rest(self) -> str:
        """What of a cluster stays, and is billed, when its head on an instance has ended all that runs, and that instance."""
        return f"its head's disk of {self.head_volume / 1024**3:g} GiB"
