"""How Azure writes names: a setting that is none of them is refused with its place, before anything is made.

Whatever has a name lies in a resource group, and is written by its name, where that group is the setting `resource_group`, or by
its id, /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/..., where it lies elsewhere. Azure reads both in any case.
"""

from __future__ import annotations

import re

from clusterctl.spec.providers.form import Form

_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_REGION = r"[a-z]{4,}[0-9]{0,2}"
_GROUP = r"[\w.()-]{0,89}[\w()-]"
_GROUP_ID = rf"/subscriptions/{_GUID}/resourceGroups/{_GROUP}"
_NETWORK = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_]"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?"  # of a network: subnets, security groups, Bastion's hosts
_IDENTITY = r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}"
_RESERVATION = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?"
_SETS = r"[A-Za-z0-9_-]{1,80}"
_ID = re.compile(rf"(?i:/subscriptions/({_GUID})/resourceGroups/([^/]+)/)")
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"

# Logins that Azure refuses for a machine's first user, and subnets in which it takes no machines.
REFUSED_USERS = frozenset((
    "1", "123", "a", "actuser", "adm", "admin", "admin1", "admin2", "administrator", "aspnet", "backup", "console",
    "david", "guest", "john", "owner", "root", "server", "sql", "support", "support_388945a0", "sys", "test", "test1",
    "test2", "test3", "user", "user1", "user2", "user3", "user4", "user5", "video",
))  # fmt: skip
_OTHERS_SUBNETS = frozenset((
    "azurebastionsubnet", "azurefirewallmanagementsubnet", "azurefirewallsubnet", "gatewaysubnet", "routeserversubnet",
))  # fmt: skip


def _id(kind: str, name: str) -> str:
    """An expression for the ids of that kind, Microsoft.Network/virtualNetworks, say."""
    return rf"(?i:{_GROUP_ID}/providers/{re.escape(kind)}/){name}"


_NETWORK_ID = _id("Microsoft.Network/virtualNetworks", _NETWORK)
RESERVATION = rf"{_RESERVATION}|{_id('Microsoft.Compute/capacityReservationGroups', _RESERVATION)}"


def _region_hint(text: str) -> str:
    plain = text.lower().replace(" ", "")
    zone = re.fullmatch(rf"({_REGION})[-_ ]([1-9])", text.lower())
    if zone:
        return f'it is a zone: write {zone[1]} here, and `zones: ["{zone[2]}"]` in a pool'
    return f"write {plain}" if plain != text and re.fullmatch(_REGION, plain) else ""


def _subscription_hint(text: str) -> str:
    if "/" in text:
        return "write its id alone"
    return "its name is another thing: `az account list --output table` shows the ids"


def _group_hint(text: str) -> str:
    return "write its name alone" if "/" in text else ""


def _subnet_hint(text: str) -> str:
    if text.lower() in _OTHERS_SUBNETS or text.lower().rpartition("/subnets/")[2] in _OTHERS_SUBNETS:
        return "Azure keeps a subnet of that name for its own gateways, and takes no machines there"
    return ""


def _named(what: str, kind: str) -> tuple[str, str]:
    return (
        f"{what} of Azure's",
        f"write its name, or /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/{kind}/NAME",
    )


REGION = Form(_REGION, "region of Azure's", "as in eastus", _region_hint)
SUBSCRIPTION = Form(
    _GUID, "subscription id of Azure's", "as in 00000000-0000-0000-0000-000000000000", _subscription_hint
)
TENANT = Form(rf"{_GUID}|{_DOMAIN}", "tenant of Azure's", "write its id, or its domain, as in contoso.onmicrosoft.com")
RESOURCE_GROUP = Form(
    _GROUP,
    "resource group of Azure's",
    "up to 90 letters, digits, '-', '_', '.', '(' and ')', with no '.' at the end",
    _group_hint,
)
NETWORK = Form(rf"{_NETWORK}|{_NETWORK_ID}", *_named("virtual network", "Microsoft.Network/virtualNetworks"))
_NO_GATEWAY = rf"(?!(?i:(?:.*/subnets/)?(?:{'|'.join(sorted(_OTHERS_SUBNETS))}))$)"
SUBNET = Form(
    rf"{_NO_GATEWAY}(?:{_PART}|{_NETWORK_ID}(?i:/subnets/){_PART})",
    "subnet for machines",
    "write its name, or /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Network/virtualNetworks/"
    "NETWORK/subnets/NAME",
    _subnet_hint,
)
SECURITY_GROUP = Form(
    rf"{_PART}|{_id('Microsoft.Network/networkSecurityGroups', _PART)}",
    *_named("network security group", "Microsoft.Network/networkSecurityGroups"),
)
BASTION = Form(
    rf"{_PART}|{_id('Microsoft.Network/bastionHosts', _PART)}",
    *_named("Bastion host", "Microsoft.Network/bastionHosts"),
)
DISK_ENCRYPTION_SET = Form(
    rf"{_SETS}|{_id('Microsoft.Compute/diskEncryptionSets', _SETS)}",
    *_named("disk encryption set", "Microsoft.Compute/diskEncryptionSets"),
)
IDENTITY = Form(
    rf"{_IDENTITY}|{_id('Microsoft.ManagedIdentity/userAssignedIdentities', _IDENTITY)}",
    *_named("user-assigned identity", "Microsoft.ManagedIdentity/userAssignedIdentities"),
)
WORKER_IDENTITY = Form(IDENTITY.pattern, IDENTITY.what, f"{IDENTITY.suggestion}, or `auto`")
_OS_DISKS = ("Standard_LRS", "StandardSSD_LRS", "StandardSSD_ZRS", "Premium_LRS", "Premium_ZRS")


def _disk_hint(text: str) -> str:
    if text.lower() in ("premiumv2_lrs", "ultrassd_lrs"):
        return f"Azure takes such a disk for data alone, and a machine starts from this one: {' or '.join(_OS_DISKS)}"
    return ""


DISK_TYPE = Form("|".join(_OS_DISKS), "type of a machine's own disk", f"write {' or '.join(_OS_DISKS)}", _disk_hint)


def is_id(text: str) -> bool:
    """Whether it is an id, not a name alone."""
    return text.startswith("/")


def subscription_in(text: str) -> str:
    """Of an id, in lower case; "" of a name."""
    found = _ID.match(text)
    return found[1].lower() if found else ""


def network_in(subnet: str) -> str:
    """The virtual network's id in a subnet's; "" of a subnet's name."""
    return re.split(r"(?i)/subnets/", subnet)[0] if is_id(subnet) else ""


def names_the_same(name: str, whole: str, group: str) -> bool:
    """Whether a name in the resource group `group`, or an id, is that of the thing with the id `whole`."""
    given, full = name.lower(), whole.lower()
    if is_id(name):
        return given == full
    return given == full.rpartition("/")[2] and f"/resourcegroups/{group.lower()}/" in full
