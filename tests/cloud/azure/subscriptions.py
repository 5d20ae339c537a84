"""What is only read: tenants, subscriptions, regions; and the providers of resources, which are registered once."""

from __future__ import annotations

from typing import Any

from tests.cloud.azure.facts import REGIONS, Region
from tests.cloud.azure.schema.routes import routes
from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, Refusal, World


class Subscriptions:
    def __init__(self, world: World, services: Services) -> None:
        self._world = world
        for operation, handler in {
            "subscriptions.get": lambda call: self._subscription(),
            "subscriptions.list": lambda call: {
                "value": [self._subscription()],
                "count": {"type": "Total", "value": 1},
            },
            "subscriptions.listLocations": lambda call: {"value": [_location(r) for r in REGIONS.values()]},
            "tenants.list": lambda call: {"value": [{"id": f"/tenants/{TENANT}", "tenantId": TENANT}]},
            "providers.get": lambda call: self._provider(_namespace(call)),
            "providers.list": lambda call: {"value": [self._provider(n) for n in namespaces()]},
            "providers.register": self._register,
        }.items():
            services.on(operation, handler)

    def _subscription(self) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
            "displayName": "clusterctl test", "state": self._world.subscription_state, "authorizationSource": "RoleBased",
            "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01",
                                     "spendingLimit": "Off"},
        }  # fmt: skip

    def _provider(self, namespace: str) -> dict[str, Any]:
        state = "NotRegistered" if namespace in self._world.unregistered else "Registered"
        kinds = [t.partition("/")[2] for t in routes().types.values() if t.startswith(f"{namespace}/")]
        types = [{"resourceType": kind, "locations": [r.title for r in REGIONS.values()]} for kind in kinds]
        return {
            "id": f"/subscriptions/{SUBSCRIPTION}/providers/{namespace}", "namespace": namespace,
            "registrationState": state, "registrationPolicy": "RegistrationRequired", "resourceTypes": types,
        }  # fmt: skip

    def _register(self, call: Call) -> dict[str, Any]:
        namespace = _namespace(call)
        self._world.unregistered.discard(namespace)
        return self._provider(namespace)


def namespaces() -> list[str]:
    return sorted({kind.partition("/")[0] for kind in routes().types.values()} - {"Microsoft.Resources"})


def check_subscription(world: World, id_: str, verb: str) -> None:
    """The subscription in a path exists, is in use, and is registered with the provider. Raises Refusal."""
    parts = id_.strip("/").split("/")
    if parts[0].lower() != "subscriptions" or len(parts) < 2:
        return
    if parts[1].lower() != SUBSCRIPTION:
        message = f"The subscription '{parts[1]}' could not be found."
        raise Refusal(404, "SubscriptionNotFound", message)
    if world.subscription_state != "Enabled" and verb != "GET":
        message = (
            f"The subscription '{parts[1]}' is disabled and therefore marked as read only. You cannot perform any write actions "
            "on this subscription until it is re-enabled."
        )
        raise Refusal(409, "ReadOnlyDisabledSubscription", message)
    of_provider = id_.rpartition("/providers/")[2]
    namespace, _, rest = of_provider.partition("/") if "/providers/" in id_ else ("", "", "")
    if rest and rest != "register" and namespace in world.unregistered:
        raise Refusal(
            409, "MissingSubscriptionRegistration",
            f"The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for how to "
            "register subscriptions.",
            details=[{"code": "MissingSubscriptionRegistration", "target": namespace,
                      "message": f"The subscription is not registered to use namespace '{namespace}'."}],
        )  # fmt: skip


def _namespace(call: Call) -> str:
    wanted = call.path["resourceProviderNamespace"].lower()
    found = next((n for n in namespaces() if n.lower() == wanted), None)
    if found is None:
        message = f"The resource namespace '{call.path['resourceProviderNamespace']}' is invalid."
        raise Refusal(404, "InvalidResourceNamespace", message)
    return found


def _location(region: Region) -> dict[str, Any]:
    mappings = [{"logicalZone": z, "physicalZone": f"{region.name}-az{z}"} for z in region.zones]
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}/locations/{region.name}", "name": region.name, "type": "Region",
        "displayName": region.title, "regionalDisplayName": f"(US) {region.title}",
        "metadata": {"regionType": "Physical", "regionCategory": "Recommended"},
        **({"availabilityZoneMappings": mappings} if mappings else {}),
    }  # fmt: skip
