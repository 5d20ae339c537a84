"""`provider: local`: processes of this machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clusterctl.spec.base import SpecModel
from clusterctl.spec.providers.kind import Kind, Search


class LocalSettings(SpecModel):
    """Nodes are processes on this machine."""

    grace: Annotated[float, Field(ge=0)] = Field(default=5, description="Seconds that a node gets to end its work.")
    short_dir: str = Field(default="/tmp", description="Where short paths may be made; sockets need them.")  # noqa: S108


KIND = Kind(
    name="local",
    title="this machine",
    settings=LocalSettings,
    works=True,
    machine="process",
    head="here",
    changes={"grace": "in-place", "short_dir": "replace"},
    foreign=frozenset(
        {
            "instances", "instance", "zones", "zone", "image", "disk", "hosts", "host", "market", "reservation",
            "keep_stopped",
        }
    ),
    starters={"local": "tasks", "local-train": "train", "local-tune": "tune", "local-data": "data", "local-serve": "service"},
    other_names=("localhost",),
    boot_seconds=1.0,
    search=Search(where=(), looked="always"),
)  # fmt: skip
