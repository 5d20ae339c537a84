"""What of a spec's environment an image is made with: where packages come from. It can be read by all who have the image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec

_NAME = re.compile(r"(PIP|UV)_[A-Z_]+|(HTTPS?|NO)_PROXY", re.IGNORECASE)


def is_installer(name: str) -> bool:
    """Whether the variable says where packages come from, or the way there."""
    return _NAME.fullmatch(name) is not None


def installers(spec: ClusterSpec, pool: str) -> dict[str, str]:
    """Those of the cluster and of the pool."""
    env = {**spec.env, **next((p.env for p in spec.pools if p.name == pool), {})}
    return {name: value for name, value in env.items() if is_installer(name)}
