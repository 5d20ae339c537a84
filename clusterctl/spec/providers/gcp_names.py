"""How Google Cloud writes names: a setting that is none of them is refused with its place, before anything is made."""

from __future__ import annotations

import re

from clusterctl.spec.providers.form import Form

_NAME = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]"
_REGION = r"[a-z]+(?:-[a-z]+)+\d{1,2}"
_ZONE = re.compile(rf"({_REGION})-[a-z]")
_URL = r"(?:https://[a-z.]+/compute/(?:v1|beta)/)?"
_ACCOUNT_NAME = r"[a-z][-a-z0-9]{4,28}[a-z0-9]"
_EMAIL = r"[^@\s]+@[a-z0-9.-]+\.(?:iam\.)?gserviceaccount\.com"
RESERVATION = rf"{_NAME}|projects/{_PROJECT}/zones/{_REGION}-[a-z]/reservations/{_NAME}"


def _region_hint(text: str) -> str:
    zone = _ZONE.fullmatch(text)
    return f"it is a zone: write {zone[1]} here, and `zones: [{text}]` in a pool" if zone else ""


def _project_hint(text: str) -> str:
    if text.isdecimal():
        return f"it is a project's number: write its id (`gcloud projects describe {text}` tells it)"
    return "project ids have lower-case letters: the name of a project is another thing" if text != text.lower() else ""


REGION = Form(_REGION, "region of Google Cloud's", "as in us-central1", _region_hint)
PROJECT = Form(_PROJECT, "project id of Google Cloud's", "as in my-project-123456", _project_hint)
NETWORK = Form(
    rf"{_NAME}|{_URL}projects/{_PROJECT}/global/networks/{_NAME}",
    "network of Google Cloud's",
    "write its name, or projects/PROJECT/global/networks/NAME",
)
SUBNET = Form(
    rf"{_NAME}|{_URL}projects/{_PROJECT}/regions/{_REGION}/subnetworks/{_NAME}",
    "subnetwork of Google Cloud's",
    "write its name, or projects/PROJECT/regions/REGION/subnetworks/NAME",
)
NETWORK_TAG = Form(
    _NAME, "network tag of Google Cloud's", "lower-case letters, digits and '-', beginning with a letter"
)
KMS_KEY = Form(
    rf"projects/{_PROJECT}/locations/[a-z0-9-]+/keyRings/[\w-]{{1,63}}/cryptoKeys/[\w-]{{1,63}}(?:/cryptoKeyVersions/\d+)?",
    "key of Cloud KMS",
    "as in projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY",
)
SERVICE_ACCOUNT = Form(
    rf"{_ACCOUNT_NAME}|{_EMAIL}",
    "service account of Google Cloud's",
    "write its name, or its address NAME@PROJECT.iam.gserviceaccount.com",
)
WORKER_ACCOUNT = Form(
    rf"auto|{_ACCOUNT_NAME}|{_EMAIL}",
    "service account of Google Cloud's",
    "write its name, its address NAME@PROJECT.iam.gserviceaccount.com, or `auto`",
)


def region_in(subnet: str) -> str:
    """Of a subnetwork that is named in full; "" of a name."""
    found = re.search(rf"/regions/({_REGION})/", subnet)
    return found[1] if found else ""
