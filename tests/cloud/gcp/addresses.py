"""Reserved addresses: internal ones of a subnetwork, and public ones of a region. They keep their number while nobody has it."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import REGIONS
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.networks import Networks
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.rules import check_labels
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, check_fingerprint, fingerprint, key_of, key_of_link
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, already_exists, in_use, invalid


class Addresses:
    def __init__(self, compute: Compute, networks: Networks) -> None:
        self._store, self._operations, self._networks = compute.store, compute.operations, networks

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.addresses.get": lambda call: dict(self._store.get(key_of_call(call, "addresses", "address"))),
            "compute.addresses.list": self._list,
            "compute.addresses.aggregatedList": lambda call: aggregated(
                call,
                "address",
                "addresses",
                self._store.scopes(PROJECT, "addresses"),
                [f"regions/{r}" for r in REGIONS],
            ),
            "compute.addresses.insert": self._insert,
            "compute.addresses.delete": self._delete,
            "compute.addresses.setLabels": self._set_labels,
        }

    def _list(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/regions/{call.path['region']}/addresses"
        return list_of(call, "address", key, self._store.collection(key))

    def _insert(self, call: Call) -> dict[str, Any]:
        body, region = dict(call.body), call.path["region"]
        key = f"projects/{PROJECT}/regions/{region}/addresses/{body['name']}"
        if self._store.find(key):
            raise already_exists(key)
        labels = body.get("labels", {})
        check_labels(labels, "resource.labels")
        if labels:
            call.need("compute.addresses.setLabels", key)
        internal = body.get("addressType", "EXTERNAL") == "INTERNAL"
        call.need(f"compute.addresses.create{'Internal' if internal else ''}", key)
        if internal:
            body = self._internal(call, body, region, key)
        elif "subnetwork" in body:
            raise invalid("resource.subnetwork", body["subnetwork"], "Only internal addresses are of a subnetwork.")
        else:
            body["address"] = body.get("address") or self._networks.public()
        self._store.add(key, "address", {
            "addressType": "EXTERNAL", "networkTier": "PREMIUM", "ipVersion": "IPV4", **body, "status": "RESERVED",
            "labelFingerprint": fingerprint(labels),
        })  # fmt: skip
        return self._operations.begin(call, "insert", key, undo=lambda: self._forget(key))

    def _internal(self, call: Call, body: Resource, region: str, key: str) -> Resource:
        if "subnetwork" not in body:
            raise invalid("resource.subnetwork", "", "An internal address needs a subnetwork.")
        subnetwork = key_of(body["subnetwork"], PROJECT, "resource.subnetwork")
        if self._store.find(subnetwork) is None or subnetwork.split("/")[3] != region:
            raise invalid(
                "resource.subnetwork", body["subnetwork"], "The referenced subnetwork resource cannot be found."
            )
        call.need("compute.subnetworks.use", subnetwork)
        try:
            address = self._networks.reserve(subnetwork, body.get("address", ""), key)
        except Failure as failure:
            raise Refusal(400, "invalid", failure.message) from failure
        return {
            "purpose": "GCE_ENDPOINT", **body, "addressType": "INTERNAL", "subnetwork": BASE + subnetwork,
            "address": str(address),
        }  # fmt: skip

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "addresses", "address")
        found = self._store.get(key)
        internal = found["addressType"] == "INTERNAL"
        call.need(f"compute.addresses.delete{'Internal' if internal else ''}", key)
        if found.get("users"):
            raise in_use(key, key_of_link(found["users"][0]))
        return self._operations.begin(call, "delete", key, lambda: self._forget(key))

    def _forget(self, key: str) -> None:
        found = self._store.find(key)
        if found and found["addressType"] == "INTERNAL":
            self._networks.unreserve(key_of_link(found["subnetwork"]), IPv4Address(found["address"]))
        self._store.remove(key)

    def _set_labels(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "addresses", "resource")
        found, labels = self._store.get(key), call.body.get("labels", {})
        check_labels(labels, "labels")
        check_fingerprint(call.body.get("labelFingerprint"), found["labelFingerprint"])
        found.update(labels=labels, labelFingerprint=fingerprint(labels))
        return self._operations.begin(call, "setLabels", key)
