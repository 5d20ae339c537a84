"""Spec files given on the command line."""

from __future__ import annotations

from pathlib import Path

from clusterctl.client.up.launch import SpecFile


def read_spec(path: Path) -> SpecFile:
    """The spec in `path`; raises SpecError with every fault."""
    # Imported here: the models take longer to load than the rest of the command line.
    from clusterctl.spec.load import parse_located, read_text

    text = read_text(path)
    return SpecFile(path, text, *parse_located(text, str(path)))
