"""`provider: azure`: Azure's virtual machines."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from clusterctl.spec.providers import cloud
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Account, Cloud, Kind, Library, Search
from clusterctl.spec.tags import TagRules

_NOT_TAKEN = "<>%&\\?/"
TAGS = TagRules(
    who="Azure",
    most=50,
    longest_key=512,
    longest_value=256,
    takes=lambda character: character.isprintable() and character not in _NOT_TAKEN,
    taken=f"all but {' '.join(_NOT_TAKEN)}",
    reserved=("microsoft", "azure", "windows"),
    alike="everywhere",
)


class AzureSettings(CloudSettings):
    """Nodes are Azure virtual machines."""

    region: str = Field(default="", description="Region (Azure's location), such as eastus.")
    subscription: str = Field(default="", description="Subscription id.")
    resource_group: str = Field(default="", description="Resource group; default: one of the cluster's own.")
    network: str = Field(default="", description="Virtual network; default: one of the cluster's own.")
    subnet: str = Field(default="", description="Subnet of the virtual network.")
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description=f"Tags for everything that is created, besides ours: {TAGS.users} at most."
    )


KIND = Kind(
    name="azure",
    title="Azure",
    settings=AzureSettings,
    works=False,
    machine="instance",
    head="instance",
    changes={
        **cloud.CHANGES,
        "subscription": "refused",
        "resource_group": "refused",
        "network": "refused",
        "subnet": "replace",
    },
    foreign=frozenset({"hosts", "host", "reservation", "keep_stopped"}),
    starters={"azure": "tasks"},
    other_names=("microsoft",),
    boot_seconds=120.0,
    search=Search(
        where=("subscription", "region", "endpoint_url"),
        looked="account",
        account=Account(("AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID"), ("~/.azure",)),
    ),
    library=Library(extra="azure", modules=("azure",)),
    cloud=Cloud(
        region="eastus",
        zone="1",
        user="ubuntu",
        catalogue="azure",
        reach=cloud.WAYS,
        here_only=cloud.HERE_ONLY,
    ),
)
