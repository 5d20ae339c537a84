"""Credentials of other providers than the head's own, which knows it by its instance's identity.

The client leaves what the spec names in `credentials/NAME`, for the head's eyes only. Each provider's library reads the file that
a variable of the environment names; a cluster has one set of settings for each provider, and so one file.
"""

from __future__ import annotations

import os
from pathlib import Path

from clusterctl.spec.providers.registry import KINDS

DIRECTORY = "credentials"


def use_credentials(directory: Path, name: str) -> None:
    """Lets the provider of that name find its file in the head's `directory`, where there is one."""
    cloud, path = KINDS[name].cloud, directory / DIRECTORY / name
    if cloud is not None and cloud.key_file and path.exists():
        os.environ[cloud.key_file] = str(path)
