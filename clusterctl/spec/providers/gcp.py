"""`provider: gcp`: instances of Google's Compute Engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from clusterctl.spec.providers import cloud
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Account, Cloud, Kind, Library, Search
from clusterctl.spec.tags import TagRules

# Google calls them labels.
TAGS = TagRules(
    who="Google Cloud",
    most=64,
    longest_key=63,
    longest_value=63,
    takes=lambda character: (character.isalnum() and character == character.lower()) or character in "_-",
    taken="lower-case letters, digits, _ and -",
    reserved=("goog",),
    alike="in lower case, which is all that it has",
)


class GcpSettings(CloudSettings):
    """Nodes are Compute Engine instances."""

    region: str = Field(default="", description="Region, such as us-central1.")
    project: str = Field(default="", description="Project id.")
    network: str = Field(default="default", description="VPC network.")
    subnet: str = Field(default="", description="Subnetwork; default: that of the network in the region.")
    service_account: str = Field(default="", description="Service account of the head.")
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description="Tags (Google's labels) for everything that is created, besides ours."
    )


KIND = Kind(
    name="gcp",
    title="Google Cloud",
    settings=GcpSettings,
    works=False,
    machine="instance",
    head="instance",
    changes={
        **cloud.CHANGES,
        "project": "refused",
        "network": "refused",
        "subnet": "replace",
        "service_account": "refused",
    },
    foreign=frozenset({"hosts", "host", "reservation", "keep_stopped"}),
    starters={"gcp": "tasks", "gcp-gpu": "gpu", "gcp-train": "train", "gcp-serve": "serve"},
    other_names=("google", "gce"),
    boot_seconds=60.0,
    search=Search(
        where=("project", "region", "endpoint_url"),
        looked="account",
        account=Account(("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"), ("~/.config/gcloud",)),
    ),
    library=Library(extra="gcp", modules=("google",)),
    cloud=Cloud(
        region="us-central1",
        zone="{region}-a",
        user="ubuntu",
        catalogue="gcp",
        reach=cloud.WAYS,
        here_only=cloud.HERE_ONLY,
    ),
)
