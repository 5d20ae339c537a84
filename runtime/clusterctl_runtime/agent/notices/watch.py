"""Tells each notice once. Which service a machine has is in its bootstrap document (`metadata`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from clusterctl_runtime.agent.notices.aws import AwsMetadata
from clusterctl_runtime.agent.notices.azure import AzureMetadata
from clusterctl_runtime.agent.notices.gcp import GcpMetadata
from clusterctl_runtime.agent.notices.script import Script
from clusterctl_runtime.agent.notices.source import Notice, Source

log = logging.getLogger(__name__)

SOURCES: dict[str, Callable[[Path], Source]] = {
    "aws": lambda _: AwsMetadata(),
    "azure": lambda _: AzureMetadata(),
    "gcp": lambda _: GcpMetadata(),
    "script": lambda directory: Script(directory / "metadata.json"),
}


def source_of(metadata: str, directory: Path) -> Source | None:
    """Where notices are to be read on a node whose document says `metadata`; None where there are none. `directory`: the
    node's."""
    return SOURCES[metadata](directory) if metadata else None


async def watch_notices(tell: Callable[[Notice], None], source: Source) -> None:
    """Calls `tell` with every new notice, for as long as the node lives."""
    loop = asyncio.get_running_loop()
    told: Notice | None = None
    while True:
        try:
            notice = await loop.run_in_executor(None, source.notice)
            if notice and notice != told:
                told = notice
                tell(notice)
        except (OSError, ValueError, KeyError) as error:
            log.debug("the metadata service: %s", error)
        await asyncio.sleep(source.every)
