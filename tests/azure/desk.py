"""A desk from which somebody logs in to Azure: its environment, and programs such as `az` that say what a test wants."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.tokens import Application
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, Principal

_PROGRAM = """\
#!{python} -S
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
sys.stderr.write({stderr!r})
sys.stdout.write({stdout!r})
sys.exit({code})
"""


class Desk:
    """Nobody is logged in at it."""

    def __init__(self, cloud: AzureCloud, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.cloud, self.home, self._patch = cloud, home, patch
        self.set(HOME=str(home), PATH=str(home / "bin"))

    def set(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(name, value)

    def knows(self, application: Application | None = None, **more: str) -> None:
        """The environment names the stand-in's login, and an application of it."""
        who = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": application.principal.client_id} if application else {}
        here = {"AZURE_AUTHORITY_HOST": self.cloud.url, "REQUESTS_CA_BUNDLE": str(self.cloud.ca_file)}
        self.set(**here, **who, **more)

    def program(self, stdout: str = "", stderr: str = "", code: int = 0, name: str = "az") -> Path:
        """One that says this; it notes with what it was called."""
        folder, log = self.home / "bin", self.home / f"{name}.log"
        folder.mkdir(exist_ok=True)
        script = folder / name
        script.write_text(_PROGRAM.format(python=sys.executable, log=str(log), stdout=stdout, stderr=stderr, code=code))
        script.chmod(0o755)
        return log

    def token(self, principal: Principal) -> str:
        return self.cloud.tokens.issue(principal, self.cloud.url)[0]

    def az(self, principal: Principal, seconds: float = 3600.0) -> Path:
        """An `az` that is logged in as this one."""
        answer = {"accessToken": self.token(principal), "expires_on": int(time.time() + seconds),
                  "subscription": SUBSCRIPTION, "tenant": TENANT, "tokenType": "Bearer"}  # fmt: skip
        return self.program(json.dumps(answer))
