"""What `clusterctl doctor` asks Azure: who we are, what the subscription is registered for and sold, each action by name, and
what locks and policies put in the way. Nothing is changed by asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.rights.identity import foreign_things
from clusterctl_providers.azure.rights.locks import lock_rows
from clusterctl_providers.azure.rights.permissions import held_at, how_to_get
from clusterctl_providers.azure.rights.policies import Wish, policy_rows
from clusterctl_providers.azure.roles import actions_of
from clusterctl_providers.cloud.doctor import Check, Rows, permission_rows
from clusterctl_providers.cloud.doctor import examine as examine_all

USUAL = (
    ("Standard_D2s_v5", "on-demand"),
    ("Standard_NC4as_T4_v3", "on-demand"),
    ("Standard_NC4as_T4_v3", "spot"),
)  # whose quotas are looked up
Sizes = Sequence[tuple[str, str]]  # (size, market)
OPTIONAL = frozenset({
    "Microsoft.Authorization/permissions/read", "Microsoft.Authorization/locks/read",
    "Microsoft.Authorization/policyAssignments/read", "Microsoft.Authorization/policySetDefinitions/read",
    "Microsoft.Resources/subscriptions/providers/read",
    "Microsoft.Features/featureProviders/subscriptionFeatureRegistrations/read",
    "Microsoft.MarketplaceOrdering/offerTypes/publishers/offers/plans/agreements/read",
})  # fmt: skip  # looking, here only
_IDENTITIES = "Microsoft.ManagedIdentity/"
# What a virtual network, a security group and the way out of the cluster's own take, and those of the user's do not.
_OF_OWN_NETWORK = ("Microsoft.Network/virtualNetworks/write", "Microsoft.Network/virtualNetworks/delete",
                   "Microsoft.Network/virtualNetworks/subnets/write", "Microsoft.Network/natGateways/")  # fmt: skip
_OF_OWN_RULES = ("Microsoft.Network/networkSecurityGroups/write", "Microsoft.Network/networkSecurityGroups/delete",
                 "Microsoft.Network/networkSecurityGroups/securityRules/",
                 "Microsoft.Network/applicationSecurityGroups/")  # fmt: skip
_OF_OWN_GROUP = ("Microsoft.Resources/subscriptions/resourceGroups/write",
                 "Microsoft.Resources/subscriptions/resourceGroups/delete")  # fmt: skip
# The types that a cluster has in its group, for policies that allow some.
_TYPES = (
    "Microsoft.Compute/virtualMachines", "Microsoft.Compute/disks", "Microsoft.Network/networkInterfaces",
    "Microsoft.Network/networkSecurityGroups",
)  # fmt: skip
_NO_SPOT = (
    "FreeTrial_",
    "AzurePass_",
    "AzureForStudents_",
    "DreamSpark_",
)  # beginnings of the offers without spot machines


def examine(
    calls: Calls,
    settings: Mapping[str, Any],
    skus: Skus,
    wanted: Sizes,
    quotas: Callable[[], Rows],
    images: Callable[[], Rows] = tuple,
    *,
    identities: bool,
) -> list[Check]:
    """(what was checked, ok, what to do). Stops at the credentials when Azure does not know them. `wanted`: sizes and markets of
    the pools; `identities`: whether clusterctl makes those of the cluster's machines; `quotas`, `images`: the rows about them."""
    asked = _Asked(calls, settings, skus, wanted, identities)
    return examine_all(
        "Azure",
        asked.who,
        asked.subscription,
        asked.providers,
        asked.features,
        asked.permissions,
        asked.locks,
        asked.policies,
        asked.sizes,
        images,
        quotas,
    )


class _Asked:
    def __init__(self, calls: Calls, settings: Mapping[str, Any], skus: Skus, wanted: Sizes, identities: bool) -> None:
        self._calls, self._settings, self._skus, self._wanted = calls, settings, skus, wanted
        self._identities = identities
        self._subscription: dict[str, Any] = {}

    @property
    def _scope(self) -> str:
        """Where clusters are made: the user's group, else the subscription, in which each gets its own."""
        return self._calls.path(group=str(self._settings.get("resource_group") or ""))

    def who(self) -> str:
        """A subscription that one may not see is not there, for Azure."""
        calls = self._calls
        self._subscription = calls.get(calls.path(), f"asking Azure for the subscription {calls.subscription}")
        name = str(self._subscription.get("displayName") or "")
        where = f"{name} ({calls.subscription})" if name else calls.subscription
        return f"{calls.caller} in the subscription {where}, {calls.region}"

    # ------------------------------------------------------------ the subscription

    def subscription(self) -> Iterator[Check]:
        state = str(self._subscription.get("state") or "Enabled")
        fix = "it may only be read: see its page in the portal, and whether it is paid"
        yield f"subscription that is enabled (it is {state})", state in ("Enabled", "Warned"), fix
        policies = self._subscription.get("subscriptionPolicies") or {}
        quota = str(policies.get("quotaId") or "")
        spot = any(market == "spot" for _, market in self._wanted)
        if spot and (quota.startswith(_NO_SPOT) or policies.get("spendingLimit") == "On"):
            fix = f"Azure sells none to this kind of subscription ({quota}): write `market: [on-demand]`, or take another one"
            yield "spot machines for this subscription", False, fix

    def providers(self) -> Iterator[Check]:
        wanted = [
            "Microsoft.Compute",
            "Microsoft.Network",
            *(["Microsoft.ManagedIdentity"] if self._identities else []),
        ]
        for name in wanted:
            try:
                found = self._calls.get(self._calls.path(name), f"asking whether {name} is registered")
            except ProviderError as error:
                yield f"provider {name}: not to be looked up ({error})", True, ""
                continue
            done = found.get("registrationState") == "Registered"
            command = f"`az provider register --namespace {name} --subscription {self._calls.subscription}`"
            yield f"provider {name} registered", done, f"once: {command}; it takes some minutes"

    def features(self) -> Iterator[Check]:
        if not self._settings.get("encryption_at_host"):
            return
        path = self._calls.path(
            "Microsoft.Features",
            "featureProviders/Microsoft.Compute/subscriptionFeatureRegistrations",
            "EncryptionAtHost",
        )
        try:
            found = self._calls.get(path, "asking whether encryption at host is allowed")
        except ProviderError as error:
            if not is_missing(error):
                yield f"feature EncryptionAtHost: not to be looked up ({error})", True, ""
                return
            found = {}
        fix = (
            "`encryption_at_host` needs it, once: `az feature register --namespace Microsoft.Compute --name EncryptionAtHost`, "
            "then `az provider register --namespace Microsoft.Compute`"
        )
        state = str((found.get("properties") or {}).get("state") or "")
        yield "feature Microsoft.Compute/EncryptionAtHost", state == "Registered", fix

    # ------------------------------------------------------------ actions

    def permissions(self) -> Iterator[Check]:
        for scope, wanted in self._actions().items():
            try:
                held = held_at(self._calls, scope)
            except ProviderError as error:
                yield f"way to look permissions up in {scope}", False, str(error)
                continue
            allowed = {f"{action} in {scope}": held.has(action) for action in wanted}
            yield from permission_rows(allowed, lambda named: how_to_get(self._calls, *named.split(" in ", 1)))

    def _actions(self) -> dict[str, set[str]]:
        """Scope -> what is needed there: the user's network, identities and the like have scopes of their own."""
        settings, lookup = self._settings, actions_of("lookup")
        client = set(actions_of("client")) - OPTIONAL
        if settings.get("network") or settings.get("subnet"):
            client = {one for one in client if not one.startswith(_OF_OWN_NETWORK)}
        if settings.get("security_group"):
            client = {one for one in client if not one.startswith(_OF_OWN_RULES)}
        if settings.get("resource_group"):
            client -= set(_OF_OWN_GROUP)
        if not self._identities:
            client = {one for one in client if not one.startswith(_IDENTITIES) or one.endswith("/assign/action")}
        found = {self._calls.path(): set(lookup & client)}
        found.setdefault(self._scope, set()).update(client - lookup)
        if self._identities:
            found[self._scope] |= actions_of("access")
        if settings.get("reach") == "bastion":
            found[self._scope] |= actions_of("bastion")
        for thing, kind in foreign_things(settings, self._scope).items():
            found[thing] = {one for one in client if one.startswith(f"{kind}/") and not _changes(one)}
        return {scope: actions for scope, actions in found.items() if actions}

    # ------------------------------------------------------------ what is in the way

    def locks(self) -> Iterator[Check]:
        yield from lock_rows(self._calls, self._scope)

    def policies(self) -> Iterator[Check]:
        yield from policy_rows(self._calls, self._scope, self._wish())

    def _wish(self) -> Wish:
        settings = self._settings
        own_network = not (settings.get("network") or settings.get("subnet"))
        head = not settings.get("head_address") and str(settings.get("reach") or "public") == "public"
        types = [*_TYPES]
        if own_network:
            types += ["Microsoft.Network/virtualNetworks"]
        if own_network and str(settings.get("outbound") or "nat") == "nat":
            types += ["Microsoft.Network/natGateways", "Microsoft.Network/publicIPAddresses"]
        if self._identities:
            types += ["Microsoft.ManagedIdentity/userAssignedIdentities"]
        return Wish(
            region=self._calls.region,
            sizes=list(dict.fromkeys(size for size, _ in self._wanted)),
            types=types,
            tags=frozenset(str(name).lower() for name in settings.get("tags") or ()),
            public=head or settings.get("outbound") == "public",
        )

    def sizes(self) -> Iterator[Check]:
        """Of those that the pools name, or that are usual."""
        for size, market in dict.fromkeys(self._wanted):
            try:
                sku = self._skus.of(size)
            except ProviderError as error:
                yield f"sizes of {self._calls.region}: not to be looked up ({error})", True, ""
                return
            what = f"size {size} ({market}) in {self._calls.region}"
            if sku is None:
                yield (
                    what,
                    False,
                    f"Azure has none there: `az vm list-skus --location {self._calls.region}` names those it has",
                )
            elif sku.closed:
                fix = (
                    f"Azure does not sell it to this subscription there ({sku.closed}): ask for it at "
                    "https://aka.ms/AzureSKURestriction, or name other sizes or another region"
                )
                yield what, False, fix
            elif market == "spot" and not sku.spot:
                yield what, False, "Azure sells this size on demand only: write `market: [on-demand]`, or name another"
            else:
                yield what, True, ""


def image_rows(find: Callable[[], Mapping[str, Callable[[], object]]]) -> Iterator[Check]:
    """A row for each image that the pools name: `find` gives for each what looks it up, and raises BadRequest where it is not to
    be had, or its terms are not accepted."""
    for name, look in find().items():
        try:
            look()
        except BadRequest as error:
            yield f"image {name}", False, str(error)
        except ProviderError as error:
            yield f"image {name}: not to be looked up ({error})", True, ""
        else:
            yield f"image {name}", True, ""


def _changes(action: str) -> bool:
    return action.endswith(("/write", "/delete"))
