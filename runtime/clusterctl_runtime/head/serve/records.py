"""What is wanted of Serve, on disk: applications with their versions, and the options that all of them share."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clusterctl.core.serving import Application, Version
from clusterctl_runtime.files.private import write_private

log = logging.getLogger(__name__)
FILE = "serve.json"


class Records:
    """`applications` by name. `options` is Serve's config without its applications, None while there were none."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._saving = asyncio.Lock()
        self.applications: dict[str, Application] = {}
        self.options: dict[str, Any] | None = None
        try:
            body = json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        self.options = body["options"]
        self.applications = {row["name"]: _application(row) for row in body["applications"]}

    def packages(self) -> set[str]:
        """The archives that some version needs, so that it can be rolled back to."""
        return {v.package for a in self.applications.values() for v in a.versions if v.package}

    async def save(self, applications: Iterable[Application], options: dict[str, Any] | None) -> None:
        """These are the ones from now on, once they are on disk. Raises OSError, and all is as before."""
        async with self._saving:
            changed = {application.name: application for application in applications}
            rows = [asdict(changed[name]) for name in sorted(changed)]
            text = json.dumps({"options": options, "applications": rows})
            await asyncio.to_thread(write_private, self._path, text)
            self.applications, self.options = changed, options


def _application(row: dict[str, Any]) -> Application:
    versions = tuple(
        Version(**{**version, "faults": tuple((p, m) for p, m in version["faults"])}) for version in row["versions"]
    )
    return Application(row["name"], versions, tuple(row["leaving"]), bool(row["ended"]))
