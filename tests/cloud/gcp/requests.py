"""Requests by which the tests of the stand-in make things, and how they wait for them, with Google's own client."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.world import PROJECT, REGION

ZONE = "us-central1-a"
HERE = {"project": PROJECT, "zone": ZONE}
THERE = {"project": PROJECT, "region": REGION}
UBUNTU = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"


def boot_disk(**more: Any) -> dict[str, Any]:
    return {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": UBUNTU, "diskSizeGb": "20", **more}}


def instance(name: str = "n1", type_: str = "n2-standard-4", **more: Any) -> dict[str, Any]:
    """The body of instances.insert."""
    return {
        "name": name, "machineType": f"zones/{ZONE}/machineTypes/{type_}", "disks": [boot_disk()],
        "networkInterfaces": [{"network": "global/networks/default"}], **more,
    }  # fmt: skip


def like(type_: str = "n2-standard-4", **more: Any) -> dict[str, Any]:
    """The instanceProperties of a bulkInsert."""
    properties = {**instance(**more), "machineType": type_}
    del properties["name"]
    return properties


def done(client: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation when it has ended, well or not."""
    assert operation["status"] == "RUNNING" and operation["kind"] == "compute#operation"
    name = operation["name"]
    if "zone" in operation:
        return client.zoneOperations().wait(**HERE, operation=name).execute()
    if "region" in operation:
        return client.regionOperations().wait(**THERE, operation=name).execute()
    return client.globalOperations().wait(project=PROJECT, operation=name).execute()


def made(client: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation, which must have ended well."""
    ended = done(client, operation)
    assert "error" not in ended, ended["error"]
    return ended


def reason(error: Any) -> str:
    """Google's word for what an HttpError refuses."""
    return str(error.value.error_details[0]["reason"])
