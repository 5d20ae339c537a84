"""`provider: azure`: Azure's virtual machines."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from clusterctl.spec.faults import Finding, refuse, shorten
from clusterctl.spec.providers import azure_names, cloud
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Account, Cloud, IdForm, Kind, Kubernetes, Library, RayUp, Reach, Search
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
    total=2048,
    any_value=True,
)

UP_TO_ON_DEMAND = -1.0  # as a spot machine's highest price
SMALLEST_NETWORK, LARGEST_NETWORK = 28, 8  # prefixes; Azure keeps five addresses of each subnet
_KEPT = tuple(
    map(
        ipaddress.IPv4Network,
        ("127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
    )
)


def _read_address_space(value: Any) -> Any:
    """A validator: an IPv4 network that a virtual network may have, or a Finding."""
    if not isinstance(value, str):
        return value
    what = suggestion = ""
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError:
        what, suggestion = f"{shorten(value)} is no IPv4 network", "as in 10.224.0.0/16"
    else:
        kept = next((kept for kept in _KEPT if kept.overlaps(network)), None)
        if kept is not None:
            what, suggestion = f"Azure keeps {kept} for itself", "as in 10.224.0.0/16"
        elif not LARGEST_NETWORK <= network.prefixlen <= SMALLEST_NETWORK:
            what = f"a network of {network.num_addresses} addresses is none for a cluster"
            suggestion = f"write one of /{LARGEST_NETWORK} to /{SMALLEST_NETWORK}"
    return refuse([Finding((), what, suggestion)]) if what else value


def _read_max_price(value: Any) -> Any:
    """A validator: a price above zero, or -1."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0 and value != UP_TO_ON_DEMAND:
        what = f"{value:g} $/h buys no spot machine"
        refuse([Finding((), what, "write US dollars per hour, or -1 for whatever it costs up to the on-demand price")])
    return value


class AzureSettings(CloudSettings):
    """Nodes are Azure virtual machines."""

    region: Annotated[str, BeforeValidator(azure_names.REGION.read)] = Field(
        default="", description="Region (Azure's location), such as eastus."
    )
    subscription: Annotated[str, BeforeValidator(azure_names.SUBSCRIPTION.read)] = Field(
        default="",
        description="Subscription id; default: that of the environment (AZURE_SUBSCRIPTION_ID), or the one that `az login` "
        "chose.",
    )
    tenant: Annotated[str, BeforeValidator(azure_names.TENANT.read)] = Field(
        default="",
        description="Tenant (directory) to log in to from here, by its id or domain; default: that of the credentials.",
        examples=["contoso.onmicrosoft.com"],
    )
    resource_group: Annotated[str, BeforeValidator(azure_names.RESOURCE_GROUP.read)] = Field(
        default="",
        description="Resource group for all that is made, which stays when the cluster goes; default: one of the cluster's own, "
        "which goes with it.",
    )
    network: Annotated[str, BeforeValidator(azure_names.NETWORK.read)] = Field(
        default="",
        description="Virtual network, by its name in `resource_group` or by its id; default: one of the cluster's own.",
    )
    subnet: Annotated[str, BeforeValidator(azure_names.SUBNET.read)] = Field(
        default="",
        description="Subnet, by its name in `network` or by its id; default: `default` of the network, or its largest for "
        "machines.",
    )
    address_space: Annotated[str, BeforeValidator(_read_address_space)] = Field(
        default="",
        description="IPv4 network that a virtual network of the cluster's own has; default: 10.224.0.0/16.",
        examples=["10.224.0.0/16"],
    )
    outbound: Literal["", "nat", "public", "none"] = Field(
        default="",
        description="The nodes' way to the internet: a NAT gateway (`nat`), a public address each (`public`), by which nothing "
        "gets in, or none of ours (`none`). Default: `nat` in a network of the cluster's own, `none` in yours.",
    )
    security_group: Annotated[str, BeforeValidator(azure_names.SECURITY_GROUP.read)] = Field(
        default="",
        description="Network security group of the instances, whose rules are yours, by its name in `resource_group` or by its "
        "id; default: one of the cluster's own.",
    )
    disk_type: Annotated[
        Literal["", "Standard_LRS", "StandardSSD_LRS", "StandardSSD_ZRS", "Premium_LRS", "Premium_ZRS"],
        BeforeValidator(azure_names.DISK_TYPE.read),
    ] = Field(
        default="",
        description="Type of the instances' disks; default: Premium_LRS where an instance type takes it, else StandardSSD_LRS.",
    )
    disk_encryption_set: Annotated[str, BeforeValidator(azure_names.DISK_ENCRYPTION_SET.read)] = Field(
        default="",
        description="Disk encryption set with the key of yours that encrypts the disks, by its name in `resource_group` or by "
        "its id; default: Azure's own key.",
    )
    encryption_at_host: bool = Field(
        default=False,
        description="Encrypt on the host as well what lies on its own disks and caches; the subscription has to have the "
        "feature Microsoft.Compute/EncryptionAtHost.",
    )
    trusted_launch: bool = Field(
        default=True, description="Secure Boot and a virtual TPM, where the instance type and the image take them."
    )
    max_price: Annotated[float, BeforeValidator(_read_max_price)] = Field(
        default=UP_TO_ON_DEMAND,
        description="US dollars per hour above which a spot machine is given up; -1: whatever it costs, up to the on-demand "
        "price.",
        json_schema_extra={"minimum": UP_TO_ON_DEMAND},
    )
    identity: Annotated[str, BeforeValidator(azure_names.IDENTITY.read)] = Field(
        default="",
        description="User-assigned identity of the head, by its name in `resource_group` or by its id; default: one of the "
        "cluster's own.",
    )
    worker_identity: Annotated[str, BeforeValidator(azure_names.WORKER_IDENTITY.read)] = Field(
        default="",
        description="User-assigned identity of the workers, by its name in `resource_group` or by its id, or `auto` for one of "
        "the cluster's own to which you add what your jobs need; default: none.",
    )
    ssh_from: list[str] = Field(
        default=[],
        description="Addresses and networks that may reach port 22, and no others; `me` is this machine's public address, "
        "`vpc` the virtual network's own. Default: `me` where the head is reached at a public address, private networks where "
        "it is reached at its private one, `vpc` for `bastion`, and none where it runs on a machine of yours.",
    )
    reach: Literal["public", "private", "bastion"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="public",
        description="How this machine gets to the head's instance: by its public address, by its private one (a VPN, or "
        "`auth.jump`), or through an Azure Bastion of yours, by the `az` command.",
    )
    bastion: Annotated[str, BeforeValidator(azure_names.BASTION.read)] = Field(
        default="",
        description="Bastion host for `reach: bastion`, by its name in `resource_group` or by its id; default: that of the "
        "network.",
    )
    calls_per_second: Annotated[float, Field(gt=0)] = Field(
        default=10,
        description="Calls to Azure per second at most, of the 25 that read and 10 that write which it allows a subscription's "
        "caller in the long run; the subscription's other programs need some as well.",
    )
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description=f"Tags for everything that is created, besides ours: {TAGS.users} at most."
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> AzureSettings:
        findings = [*self._check_names(), *self._check_subscriptions(), *self._check_network(), *self._check_ways()]
        return refuse(findings) if findings else self

    @property
    def _own_network(self) -> bool:
        return not (self.network or self.subnet)

    def billed_at_rest(self) -> str:
        """Beside the disk what of the network has a price."""
        gateway = self._own_network and self.outbound in ("", "nat")
        network = ["a NAT gateway (about $0.045 per hour)"] if gateway else []
        addresses = ["public addresses"] if gateway or self.reach == "public" else []
        *first, last = [super().billed_at_rest(), *network, *addresses]
        return f"{', '.join(first)} and {last}" if first else last

    def _check_names(self) -> Iterator[Finding]:
        """A name alone is looked up in the resource group, and that of the cluster's own has nothing of the user's."""
        if self.resource_group:
            return
        for key in ("network", "security_group", "disk_encryption_set", "identity", "worker_identity", "bastion"):
            name = getattr(self, key)
            if name and name != "auto" and not azure_names.is_id(name):
                what = f"{shorten(name)} is a name alone, and a resource group of the cluster's own has none of yours"
                yield Finding((key,), what, "write its id, or name the `resource_group` that has it")

    def _check_subscriptions(self) -> Iterator[Finding]:
        """What a machine is attached to lies in its own subscription. Identities and Bastion's hosts need not."""
        for key in ("network", "subnet", "security_group", "disk_encryption_set"):
            other = azure_names.subscription_in(getattr(self, key))
            if self.subscription and other and other != self.subscription.lower():
                what = f"this one is in the subscription {other}, the cluster in {self.subscription}"
                yield Finding(
                    (key,), what, "Azure attaches to a machine what is in its own subscription: name one of it"
                )

    def _check_network(self) -> Iterator[Finding]:
        if self.subnet and not azure_names.is_id(self.subnet) and not self.network:
            what = f"{shorten(self.subnet)} is a subnet of a network that is not named"
            yield Finding(("subnet",), what, "name its `network`, or write the subnet's id")
        whole = azure_names.network_in(self.subnet)
        if whole and self.network and not azure_names.names_the_same(self.network, whole, self.resource_group):
            what = f"the subnet is in {whole.rpartition('/')[2]}, another network than {shorten(self.network)}"
            yield Finding(("subnet",), what, "leave `network` out, or name one of its subnets")
        if self.address_space and not self._own_network:
            what = "a virtual network of yours has its addresses"
            yield Finding(("address_space",), what, "remove it, or name no network", True)
        if self.outbound == "nat" and not self._own_network:
            what = "a NAT gateway is a subnet's, and this subnet is yours"
            yield Finding(("outbound",), what, "give it one, and leave `outbound` out", True)

    def _check_ways(self) -> Iterator[Finding]:
        if self.reach == "bastion" and self._own_network:
            what = "a Bastion is in a network of yours, or next to it, and a network of the cluster's own has none"
            yield Finding(("reach",), what, "name the `network` or `subnet` for the nodes")
        if self.outbound == "none" and self._own_network and self.reach != "public" and not self.head_address:
            what = "the head would have no way to Azure, and could launch nothing"
            yield Finding(("outbound",), what, "write nat, or name a `network` that has a way out")


WAYS = {
    **cloud.WAYS,
    "bastion": Reach(
        public=False,
        opens=("vpc",),  # its subnet is there
        command="-m clusterctl_providers.azure.bastion {id} {port}",
        options=("subscription", "tenant", "region", "resource_group", "network", "subnet", "bastion", "endpoint_url"),
        programs={
            "az": "https://learn.microsoft.com/cli/azure/install-azure-cli, then `az extension add --name bastion`"
        },
    ),
}

KIND = Kind(
    name="azure",
    title="Azure",
    settings=AzureSettings,
    works=True,
    machine="instance",
    head="instance",
    changes={
        **cloud.CHANGES,
        "subscription": "refused",
        "tenant": "in-place",  # of the client
        "resource_group": "refused",
        "network": "refused",
        "subnet": "replace",
        "address_space": "refused",
        "outbound": "replace",
        "security_group": "replace",
        "disk_type": "replace",
        "disk_encryption_set": "replace",
        "encryption_at_host": "replace",
        "trusted_launch": "replace",
        "max_price": "in-place",  # of machines to come
        "identity": "refused",
        "worker_identity": "replace",
        "bastion": "in-place",  # of the client
    },
    foreign=frozenset({"hosts", "host"}),
    starters={"azure": "tasks", "azure-gpu": "gpu", "azure-train": "train", "azure-serve": "serve"},
    other_names=("microsoft",),
    boot_seconds=120.0,
    search=Search(
        where=("subscription", "region", "endpoint_url"),
        looked="account",
        account=Account(("AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID", "AZURE_TENANT_ID"), ("~/.azure",)),
    ),
    library=Library(extra="azure", modules=("azure",)),
    cloud=Cloud(
        kubernetes=Kubernetes(
            "aks",
            spot={"kubernetes.azure.com/scalesetpriority": "spot"},
            spot_taint=("kubernetes.azure.com/scalesetpriority", "spot"),
        ),
        region="eastus",
        zone="1",
        user="ubuntu",
        catalogue="azure",
        reach=WAYS,
        here_only=cloud.HERE_ONLY | {"tenant", "bastion"},
        key_file="AZURE_AUTH_LOCATION",
        reservation=IdForm(azure_names.RESERVATION, "my-reservation"),
        zones=IdForm(r"[1-9]", "1"),
        refused_users=azure_names.REFUSED_USERS,
    ),
    ray_up=RayUp(
        "azure",
        settings={"location": "region", "resource_group": "resource_group", "subscription_id": "subscription"},
        zones="availability_zone",
        instance="azure_arm_parameters.vmSize",
        disk="azure_arm_parameters.osDiskSizeGB",
        spot={"azure_arm_parameters.priority": "spot"},
    ),
)
