"""Objects that the tests make."""

from __future__ import annotations

from typing import Any


def pod(name: str, **more: Any) -> dict[str, Any]:
    """One container with these `limits`; `metadata` and what a pod's spec has may be added."""
    limits = more.pop("limits", {"cpu": "1"})
    metadata = {"name": name, **more.pop("metadata", {})}
    containers = [{"name": "main", "image": "none", "resources": {"limits": limits}}]
    return {"metadata": metadata, "spec": {"containers": containers, **more}}
