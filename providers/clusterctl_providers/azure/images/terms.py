"""The terms of an image that somebody sells in Azure's marketplace: a subscription accepts them once; nobody does that here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing


def check_terms(calls: Calls, urn: str, plan: Mapping[str, Any]) -> None:
    """Raises BadRequest, with the command, where the terms are not accepted. `urn` is "" for an image that was made of
    a sold one. Whoever may not look there is told by the launch."""
    name, publisher, product = (str(plan[key]) for key in ("name", "publisher", "product"))
    path = calls.path(
        "Microsoft.MarketplaceOrdering", "offerTypes/virtualmachine/publishers", publisher, "offers", product, "plans", name,
        "agreements/current",
    )  # fmt: skip
    which = f"--urn {urn}" if urn else f"--publisher {publisher} --offer {product} --plan {name}"
    title = f"the image {urn}" if urn else f"an image with the plan {publisher}:{product}:{name}"
    try:
        found = calls.get(path, f"looking for the terms of {title}")
    except AuthFailed:
        return
    except ProviderError as error:
        if not is_missing(error):
            raise
        found = {}
    if not (found.get("properties") or {}).get("accepted"):
        raise BadRequest(
            f"{title} is sold by {publisher}, and its terms are not accepted in the subscription {calls.subscription}: read them "
            f"(`az vm image terms show {which}`), and accept them once: `az vm image terms accept {which} --subscription "
            f"{calls.subscription}`"
        )
