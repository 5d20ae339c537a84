"""Removing what was made for a cluster: what is gone already is done, what is still in use has to wait.

AWS           ...NotFound is gone; DependencyViolation, ...InUse wait for the instance that has just ended
Google Cloud  404 is gone; RESOURCE_IN_USE_BY_ANOTHER_RESOURCE and RESOURCE_NOT_READY wait
Azure         404 is gone; InUseSubnetCannotBeDeleted, NicInUse and the like wait; a resource group takes all with it
"""

from __future__ import annotations

from collections.abc import Callable

from clusterctl.core.errors import ProviderError, Throttled


def removed(
    call: Callable[[], object],
    thing: str,
    gone: Callable[[ProviderError], bool],
    in_use: Callable[[ProviderError], bool],
) -> list[str]:
    """Sentences of what has to wait and is tried again: none, or one. Raises ProviderError when `thing` cannot go."""
    try:
        call()
    except Throttled as error:
        return [str(error)]
    except ProviderError as error:
        if gone(error):
            return []
        if in_use(error):
            return [f"{thing} is still in use"]
        raise
    return []
