"""The packages that a spec wants beside Ray, and whether an environment that was found has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def plain_requirements(lines: Iterable[str]) -> tuple[str, ...]:
    """Each once and in one order: who writes them otherwise wants the same environment."""
    return tuple(sorted({str(Requirement(line)) for line in lines}))


def lacking(requirements: Iterable[str], packages: Mapping[str, str]) -> list[str]:
    """Those that `packages` (canonical name -> version) do not meet. One with extras is never taken for met, since what those
    bring is not looked at, and one with a condition counts as if it held: where in doubt, what was asked for is installed."""
    return [text for text in requirements if not _is_met(Requirement(text), packages)]


def _is_met(wanted: Requirement, packages: Mapping[str, str]) -> bool:
    version = packages.get(canonicalize_name(wanted.name))
    return version is not None and not wanted.extras and wanted.specifier.contains(version, prereleases=True)
