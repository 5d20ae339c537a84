"""`provider: gcp`: instances of Google's Compute Engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from clusterctl.spec.providers import cloud
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Account, Cloud, Kind, Library, Reach, Search
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
    service_account: str = Field(
        default="",
        description="Service account of the head, its e-mail address or name; default: one of the cluster's own.",
    )
    worker_service_account: str = Field(
        default="",
        description="Service account of the workers, or `auto` for one of the cluster's own to which you add what your jobs "
        "need; default: none.",
    )
    impersonate: str = Field(
        default="",
        description="Service account to act as, instead of whoever is logged in here; that one needs "
        "roles/iam.serviceAccountTokenCreator on it. Default: none.",
        examples=["deployer@my-project.iam.gserviceaccount.com"],
    )
    ssh_from: list[str] = Field(
        default=[],
        description="Addresses and networks that may reach port 22, and no others; `me` is this machine's public address. "
        "Default: `me` where the head is reached at a public address, private networks where it is reached at its private one, "
        "Google's relay for `iap`, and none where it runs on a machine of yours.",
    )
    reach: Literal["public", "private", "iap"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="public",
        description="How this machine gets to the head's instance: by its public address, by its private one (a VPN, or "
        "`auth.jump`), or through Google's Identity-Aware Proxy, without the `gcloud` command.",
    )
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description="Tags (Google's labels) for everything that is created, besides ours."
    )


RELAY = "35.235.240.0/20"  # from which the Identity-Aware Proxy comes to a machine
WAYS = {
    **cloud.WAYS,
    "iap": Reach(
        public=False,
        opens=(RELAY,),
        command="-m clusterctl_providers.gcp.iap {id} {port}",
        options=("project", "impersonate", "endpoint_url"),
    ),
}

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
        "worker_service_account": "replace",
        "impersonate": "in-place",  # of the client
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
        reach=WAYS,
        here_only=cloud.HERE_ONLY | {"impersonate"},
    ),
)
