"""A spec file that the user named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clusterctl.spec.document import Document
    from clusterctl.spec.model import ClusterSpec


@dataclass(frozen=True)
class SpecFile:
    """A spec as the user wrote it and as it was understood."""

    path: Path
    text: str
    spec: ClusterSpec
    located: Document  # knows the place of every key

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.spec.cluster


def read_spec(path: Path) -> SpecFile:
    """The spec in `path`; raises SpecError with every fault."""
    # Imported here: the models take longer to load than the rest of the command line.
    from clusterctl.spec.load import parse_located, read_text

    text = read_text(path)
    return SpecFile(path, text, *parse_located(text, str(path)))
