"""What the body of a VM may say: names, logins, papers, priority, security. All that needs no look at other resources."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from tests.cloud.azure.facts import REGIONS
from tests.cloud.azure.sizes import Size
from tests.cloud.azure.store import Resource
from tests.cloud.azure.world import Refusal, World, invalid

MOST_DATA = 87380  # characters of base64
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,62}[A-Za-z0-9_]|[A-Za-z0-9]")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")
_KEY = re.compile(r"(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/=]+( .*)?\s*")
_NOT_USERS = {
    "administrator", "admin", "user", "user1", "test", "user2", "test1", "user3", "admin1", "1", "123", "a", "actuser", "adm",
    "admin2", "aspnet", "backup", "console", "david", "guest", "john", "owner", "root", "server", "sql", "support",
    "support_388945a0", "sys", "test2", "test3", "user4", "user5",
}  # fmt: skip
_HOST_ENCRYPTION = "Microsoft.Compute/EncryptionAtHost"
# What a machine is for as long as it is there.
_FIXED = (
    "storageProfile.imageReference", "storageProfile.osDisk.createOption", "osProfile.computerName", "osProfile.adminUsername",
    "osProfile.customData", "osProfile.linuxConfiguration.ssh", "priority", "availabilitySet", "virtualMachineScaleSet",
)  # fmt: skip


def check_new(world: World, resource: Resource) -> None:
    """Raises Refusal."""
    properties = resource["properties"]
    if not _NAME.fullmatch(resource["name"]):
        raise invalid("vmName", f"The value of parameter vmName is invalid: {resource['name']}")
    for member in ("hardwareProfile", "storageProfile", "networkProfile"):
        if not properties.get(member):
            raise invalid(member, f"Required parameter '{member}' is missing (null).")
    if not properties["hardwareProfile"].get("vmSize"):
        raise invalid("vmSize", "Required parameter 'vmSize' is missing (null).")
    if not properties["storageProfile"].get("osDisk"):
        raise invalid("osDisk", "Required parameter 'osDisk' is missing (null).")
    check_zone(resource)
    check_login(resource)
    check_priority(properties)
    check_security(world, properties)


def check_zone(resource: Resource) -> None:
    zones, known = resource.get("zones") or [], REGIONS[resource["location"]].zones
    if len(zones) > 1:
        raise invalid("zones", "The zones property of a virtual machine must have one zone at most.")
    if zones and not known:
        message = (
            f"The zone(s) '{zones[0]}' for resource '{resource['id']}' is not supported. The supported zones for location "
            f"'{resource['location']}' are ''"
        )
        raise Refusal(400, "LocationDoesNotSupportAvailabilityZones", message)
    if zones and zones[0] not in known:
        message = (
            f"The zone(s) '{zones[0]}' for resource '{resource['id']}' is not supported. The supported zones for location "
            f"'{resource['location']}' are '{','.join(known)}'"
        )
        raise Refusal(400, "InvalidAvailabilityZone", message)
    if zones and resource["properties"].get("availabilitySet"):
        message = "Virtual machines in an availability set cannot be in a zone."
        raise Refusal(400, "BadRequest", message)


def check_login(resource: Resource) -> None:
    profile = resource["properties"].get("osProfile")
    if profile is None:
        if resource["properties"]["storageProfile"]["osDisk"]["createOption"] == "FromImage":
            raise invalid("osProfile", "Required parameter 'osProfile' is missing (null).")
        return
    for member in ("computerName", "adminUsername"):
        if not profile.get(member):
            raise invalid(f"osProfile.{member}", f"Required parameter 'osProfile.{member}' is missing (null).")
    if not _HOST.fullmatch(profile["computerName"]) or len(profile["computerName"]) > 64:
        message = (
            "Linux host name cannot exceed 64 characters in length or contain the following characters: ` ~ ! @ # $ % "
            "^ & * ( ) = + _ [ ] { } \\ | ; : ' \" , < > / ?."
        )
        raise invalid("computerName", message)
    user = profile["adminUsername"]
    if user.lower() in _NOT_USERS:
        message = "The Admin Username specified is not allowed. For more information about disallowed usernames, see https://aka.ms/vmosprofile"
        raise invalid("adminUsername", message)
    _check_keys(profile, user)
    user_data(profile)


def _check_keys(profile: dict[str, Any], user: str) -> None:
    linux = profile.get("linuxConfiguration") or {}
    keys = (linux.get("ssh") or {}).get("publicKeys") or []
    if not keys and not profile.get("adminPassword"):
        message = "Authentication using either SSH or by user name and password must be enabled in Linux profile."
        raise invalid("linuxConfiguration", message)
    for key in keys:
        where = f"/home/{user}/.ssh/authorized_keys"
        if key.get("path") != where:
            message = (
                f"Destination path for SSH public keys is currently limited to its default value {where} due to a known "
                "issue in Linux provisioning agent."
            )
            raise invalid("linuxConfiguration.ssh.publicKeys.path", message)
        if not _KEY.fullmatch(key.get("keyData") or ""):
            message = "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid."
            raise invalid("linuxConfiguration.ssh.publicKeys.keyData", message)


def user_data(profile: dict[str, Any]) -> bytes:
    """What a machine runs at its first boot. Raises Refusal."""
    text = profile.get("customData") or ""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b"" if not text else None  # type: ignore[assignment]
    if data is None or len(text) > MOST_DATA:
        message = (
            f"Custom data in OSProfile must be in Base64 encoding and with a maximum length of {MOST_DATA} characters."
        )
        raise invalid("customData", message)
    return data


def check_priority(properties: dict[str, Any]) -> None:
    spot = properties.get("priority") == "Spot"
    if not spot and (properties.get("evictionPolicy") or properties.get("billingProfile")):
        message = "Eviction policy and max price can be set only on Azure Spot Virtual Machines. For more information, see http://aka.ms/AzureSpot/errormessages"
        raise Refusal(409, "OperationNotAllowed", message)
    if spot and properties.get("availabilitySet"):
        message = "Azure Spot Virtual Machine is not supported in Availability Set. For more information, see http://aka.ms/AzureSpot/errormessages"
        raise Refusal(409, "OperationNotAllowed", message)
    if spot and properties.get("capacityReservation"):
        message = "Azure Spot Virtual Machines cannot be associated with a capacity reservation group."
        raise Refusal(409, "OperationNotAllowed", message)


def check_price(world: World, size: Size, properties: dict[str, Any]) -> None:
    """Of a spot machine."""
    most = (properties.get("billingProfile") or {}).get("maxPrice", -1)
    now = world.spot_prices.get(size.name)
    if not size.spot:
        message = f"The VM size '{size.name}' is not supported for Azure Spot. For more information, see http://aka.ms/AzureSpot/errormessages"
        raise Refusal(409, "OperationNotAllowed", message)
    if most != -1 and now is not None and most < now:
        raise Refusal(
            409, "OperationNotAllowed",
            f"Unable to perform operation 'Create Virtual Machine' since the provided max price '{most:g} USD' is lower than the "
            f"current spot price '{now:g} USD' for Azure Spot VM size '{size.name}'. For more information, see "
            "http://aka.ms/AzureSpot/errormessages.",
        )  # fmt: skip


def check_security(world: World, properties: dict[str, Any]) -> None:
    profile = properties.get("securityProfile") or {}
    if profile.get("encryptionAtHost") and _HOST_ENCRYPTION not in world.features:
        message = (
            "The property 'securityProfile.encryptionAtHost' is not valid because the "
            "'Microsoft.Compute/EncryptionAtHost' feature "
            "is not enabled for this subscription."
        )
        raise invalid("securityProfile.encryptionAtHost", message)
    if profile.get("uefiSettings") and not profile.get("securityType"):
        message = "Use of UEFI settings is not supported for VMs without a security type."
        raise Refusal(400, "BadRequest", message)


def check_change(resource: Resource, before: Resource, user_data_before: bytes) -> None:
    """Raises Refusal (409) where a second PUT asks for what cannot be changed. What it leaves out stays."""
    if (resource.get("zones") or []) != (before.get("zones") or []):
        raise _fixed("zones")
    for path in _FIXED:
        new, old = _at(resource["properties"], path), _at(before["properties"], path)
        if path == "osProfile.customData":
            same = new is None or user_data({"customData": new}) == user_data_before
        elif path == "storageProfile.imageReference":
            same = new is None or all((old or {}).get(k) == v for k, v in new.items())
        else:
            same = new is None or new == old or (path == "priority" and {new, old} == {None, "Regular"})
        if not same:
            raise _fixed(path)


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _fixed(path: str) -> Refusal:
    return Refusal(409, "PropertyChangeNotAllowed", f"Changing property '{path}' is not allowed.", path)
