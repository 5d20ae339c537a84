"""Where Microsoft's packages are on this machine, and their text."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

# Below azure.mgmt. Packages of several versions have a folder for each: the one that is the default of their clients.
FOLDERS = (
    "compute",
    "network",
    "resource/resources",
    "resource/subscriptions",
    "resource/locks",
    "resource/policy",
    "resource/features",
    "resourcegraph",
    "marketplaceordering",
    "authorization/v2022_04_01",
    "msi/v2024_11_30",
)


@dataclass(frozen=True)
class Package:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def operations(self) -> str:
        """All its modules of operations, one after the other."""
        files = sorted(self.folder.glob("operations/*_operations.py"))
        return "\n".join(file.read_text() for file in files)

    def models(self) -> str:
        names = ("_models.py", "_models_py3.py")
        return next(f.read_text() for f in (self.folder / "models" / name for name in names) if f.exists())

    def enums(self) -> str:
        return "\n".join(file.read_text() for file in self.folder.glob("models/*_enums.py"))


@functools.cache
def packages() -> tuple[Package, ...]:
    spec = importlib.util.find_spec("azure.mgmt")
    assert spec is not None and spec.submodule_search_locations, "the packages azure-mgmt-* are not installed"
    root = Path(next(iter(spec.submodule_search_locations)))
    return tuple(Package(root / folder) for folder in FOLDERS)
