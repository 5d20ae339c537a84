"""`plan` for a cluster that does not run: what its spec makes the planner buy at once, through the planner itself."""

from __future__ import annotations

import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any

from clusterctl.client.down.take_down import make_providers
from clusterctl.client.up.review import review_with

if TYPE_CHECKING:
    from clusterctl_providers.base import PoolRequest, Provider

    from clusterctl.client.specfile import SpecFile
    from clusterctl.core.model import Offer, Plan

_COMING = ("launch_rate", "next_plan")  # codes of waits for the next minute, or the next look


def plan_new(source: SpecFile) -> dict[str, Any]:
    """The document of `plan --json`: every pool, the nodes of their min, and $/h."""
    return plan_with(source, *offers_now(source))


def plan_with(source: SpecFile, offers: tuple[Offer, ...], notes: list[str]) -> dict[str, Any]:
    """The same of these offers. `notes`: what else is to be warned of."""
    from clusterctl.core.diff import plan_document, plan_spec

    spec, first = source.spec, _first(source, offers)
    fields = spec.model_dump(mode="json", by_alias=True)
    document = plan_document(plan_spec(None, fields, first=first, offers=offers, settings=spec.kind.changes))
    return document | {"warnings": [*document["warnings"], *notes]}


def short_of_min(source: SpecFile, offers: tuple[Offer, ...]) -> list[str]:
    """Why a pool would not come to its min with these offers, as far as that is not a matter of minutes: its limits, a closed
    reservation."""
    waits = [wait for wait in _first(source, offers).waits if wait.demand_id.startswith("min:")]
    reasons = dict.fromkeys(wait.reason for wait in waits if wait.reason.code not in _COMING)
    return [f"{reason.text} ({reason.fix})" if reason.fix else reason.text for reason in reasons]


def _first(source: SpecFile, offers: tuple[Offer, ...]) -> Plan:
    """What the planner would do at once for a new cluster."""
    from clusterctl.core.model import Policy, State
    from clusterctl.core.planner import plan
    from clusterctl.spec.to_core import core_limits, core_pools

    spec = source.spec
    state = State(spec.cluster, str(uuid.uuid4()), core_pools(spec), nodes=(), limits=core_limits(spec))
    return plan(Policy(), (), state, (), offers, time.time())


def offers_now(source: SpecFile) -> tuple[tuple[Offer, ...], list[str]]:
    """What the providers offer now, and a note for each that could not be asked: its offers are the catalogue's. Raises SpecError
    with what the spec names and they do not have."""
    from clusterctl_providers.base import PoolRequest

    from clusterctl.spec.to_core import core_pools, pool_requests

    spec, requests = source.spec, pool_requests(source.spec)
    offers: list[Offer] = []
    notes: dict[str, str] = {}  # by provider
    with tempfile.TemporaryDirectory(prefix="clusterctl-plan-") as scratch:
        providers = make_providers(spec.cluster, "", scratch, spec.model_dump(mode="json", by_alias=True))
        try:
            review_with(providers, source)
            for pool in core_pools(spec):
                request = PoolRequest(pool.name, requests[pool.name], pool.role)
                found, note = _ask(providers[pool.provider], request)
                offers += found
                if note:
                    notes.setdefault(pool.provider, note)
        finally:
            for provider in providers.values():
                provider.close()
    return tuple(offers), list(notes.values())


def _ask(provider: Provider, request: PoolRequest) -> tuple[list[Offer], str]:
    from clusterctl_providers.base import HasCatalogue

    from clusterctl.core.errors import AuthFailed, UnknownOutcome

    try:
        return provider.offers(request), ""
    except (AuthFailed, UnknownOutcome) as error:
        if not isinstance(provider, HasCatalogue):
            raise
        offers = provider.catalogue_offers(request)
        dates = sorted({offer.price_date for offer in offers})
        when = f" of {dates[0]}" if len(dates) == 1 else f" of {dates[0]} to {dates[-1]}" if dates else ""
        return offers, (
            f"prices are those of the shipped catalogue{when}, and whether the machines are to be had is unknown, since "
            f"{provider.name} could not be asked ({error})"
        )
