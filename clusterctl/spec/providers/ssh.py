"""`provider: ssh`: machines of the user's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clusterctl.spec.base import SpecModel
from clusterctl.spec.providers.kind import Kind, Library, RayUp


class SshSettings(SpecModel):
    """Nodes are machines that you already have, reached by SSH."""

    config: str = Field(default="", description="SSH client configuration to honour; default: `~/.ssh/config`.")
    address: str = Field(
        default="", description="Address by which the hosts reach the head's; default: where it was logged in to."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port of the head to which the hosts connect: open it in firewalls. Default: 7420, or the next free one.",
    )


KIND = Kind(
    name="ssh",
    title="hosts reached by SSH",
    settings=SshSettings,
    works=True,
    machine="host",
    head="host",
    changes=dict.fromkeys(("config", "address", "port"), "in-place"),  # the head goes on listening where it did
    foreign=frozenset(
        {"instances", "instance", "zones", "zone", "image", "disk", "market", "reservation", "keep_stopped"}
    ),
    starters={"ssh": "tasks"},
    other_names=("onprem", "on-prem", "static"),
    boot_seconds=5.0,
    search=None,
    library=Library(extra="ssh", modules=("paramiko",)),
    ray_up=RayUp("local", hosts=True),
)
