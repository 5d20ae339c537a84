"""What Compute Engine's machine series can and cannot do, as Google's pages on them say (2026-11)."""

from __future__ import annotations

HYPERDISK, PERSISTENT = "hyperdisk-balanced", "pd-balanced"
# Series that take Hyperdisk and no Persistent Disk.
_HYPERDISK_ONLY = (
    "a3-ultragpu", "a4", "a4x", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "n4a", "n4d", "x4", "z4d",
)  # fmt: skip
# Series whose machines stay where they are: when their host is maintained, they end.
_IMMOVABLE = ("a2", "a3", "a4", "a4x", "g2", "g4", "h3", "h4d", "x4")
# Series that can be placed close together by a compact policy.
_COMPACT = (
    "a2", "a3", "a4", "a4x", "c2", "c2d", "c3", "c3d", "c4", "c4a", "c4d", "g2", "g4", "h3", "h4d", "n2", "n2d", "n4",
)  # fmt: skip


def disk_type(machine_type: str) -> str:
    """Of a boot disk, where the spec does not say."""
    return HYPERDISK if _is_of(machine_type, _HYPERDISK_ONLY) else PERSISTENT


def is_movable(machine_type: str) -> bool:
    """Whether it can go on on another host, as far as that depends on the series."""
    return not _is_of(machine_type, _IMMOVABLE) and not machine_type.endswith("-metal")


def is_placed(machine_type: str) -> bool:
    """Whether a compact placement policy takes it."""
    return _is_of(machine_type, _COMPACT)


def _is_of(machine_type: str, series: tuple[str, ...]) -> bool:
    return machine_type.startswith(tuple(f"{name}-" for name in series))
