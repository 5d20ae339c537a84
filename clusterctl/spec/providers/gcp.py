"""`provider: gcp`: instances of Google's Compute Engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from clusterctl.spec.faults import Finding, refuse
from clusterctl.spec.fields import Duration
from clusterctl.spec.providers import cloud, gcp_names
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import (
    MARKETS,
    Account,
    Cloud,
    IdForm,
    Kind,
    Kubernetes,
    Library,
    RayUp,
    Reach,
    Search,
)
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
    letter_first=True,
)

SHORTEST_RUN, LONGEST_RUN = 600.0, 7 * 86_400.0  # seconds that Google lets a machine of flex-start run


class GcpSettings(CloudSettings):
    """Nodes are Compute Engine instances."""

    region: Annotated[str, BeforeValidator(gcp_names.REGION.read)] = Field(
        default="", description="Region, such as us-central1."
    )
    project: Annotated[str, BeforeValidator(gcp_names.PROJECT.read)] = Field(
        default="", description="Project id; default: that of the environment or of the credentials."
    )
    network: Annotated[str, BeforeValidator(gcp_names.NETWORK.read)] = Field(
        default="default",
        description="VPC network, by its name, or as projects/PROJECT/global/networks/NAME where it is another project's.",
    )
    subnet: Annotated[str, BeforeValidator(gcp_names.SUBNET.read)] = Field(
        default="",
        description="Subnetwork, by its name, or as projects/PROJECT/regions/REGION/subnetworks/NAME; default: that of the "
        "network in the region.",
    )
    public_addresses: bool = Field(
        default=True,
        description="Workers get a public address, as their way to the internet; nothing gets in by it. Without, they need "
        "Cloud NAT for what your jobs fetch.",
    )
    network_tags: Annotated[list[str], BeforeValidator(gcp_names.NETWORK_TAG.read_all)] = Field(
        default=[],
        description="Network tags of the instances, whose firewall rules are yours; default: one of the cluster's own, with "
        "rules that are made for it.",
    )
    disk_type: Literal[
        "", "pd-standard", "pd-balanced", "pd-ssd", "pd-extreme", "hyperdisk-balanced", "hyperdisk-extreme"
    ] = Field(
        default="",
        description="Type of the instances' disks; default: hyperdisk-balanced where an instance type takes no other, else "
        "pd-balanced.",
    )
    kms_key: Annotated[str, BeforeValidator(gcp_names.KMS_KEY.read)] = Field(
        default="",
        description="Key of Cloud KMS that encrypts the disks; default: Google's own.",
        examples=["projects/my-project/locations/us-central1/keyRings/ring/cryptoKeys/key"],
    )
    flex_start_for: Duration = Field(
        default=LONGEST_RUN,
        description="How long a machine of the market flex-start runs, 10m to 7d; then Google deletes it. Shorter ones are had "
        "sooner.",
    )
    service_account: Annotated[str, BeforeValidator(gcp_names.SERVICE_ACCOUNT.read)] = Field(
        default="",
        description="Service account of the head, its e-mail address or name; default: one of the cluster's own.",
    )
    worker_service_account: Annotated[str, BeforeValidator(gcp_names.WORKER_ACCOUNT.read)] = Field(
        default="",
        description="Service account of the workers, or `auto` for one of the cluster's own to which you add what your jobs "
        "need; default: none.",
    )
    os_login: bool = Field(
        default=False,
        description="Log in to the head by OS Login, as an organisation may want it: Google's roles decide who gets in, and the "
        "key is in your own profile. Default: a key in the metadata of the head's instance.",
    )
    impersonate: Annotated[str, BeforeValidator(gcp_names.SERVICE_ACCOUNT.read)] = Field(
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
    calls_per_second: Annotated[float, Field(gt=0)] = Field(
        default=15,
        description="Calls to Google per second at most, of the 1,500 a minute that it allows a project in each of several "
        "groups of methods; the project's other programs need some as well.",
    )
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description="Tags (Google's labels) for everything that is created, besides ours."
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> GcpSettings:
        findings: list[Finding] = []
        other = gcp_names.region_in(self.subnet)
        if self.region and other and other != self.region:
            what = f"the subnetwork is in {other}, the cluster in {self.region}"
            findings.append(Finding(("subnet",), what, "name one of its region, or the region of this one"))
        if not SHORTEST_RUN <= self.flex_start_for <= LONGEST_RUN:
            what = "a machine of flex-start runs for 10 minutes to 7 days"
            findings.append(Finding(("flex_start_for",), what, "as in 12h"))
        return refuse(findings) if findings else self


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
    works=True,
    machine="instance",
    head="instance",
    changes={
        **cloud.CHANGES,
        "project": "refused",
        "network": "refused",
        "subnet": "replace",
        "public_addresses": "replace",
        "network_tags": "replace",
        "disk_type": "replace",
        "kms_key": "replace",
        "flex_start_for": "in-place",  # of machines to come
        "service_account": "refused",
        "worker_service_account": "replace",
        "os_login": "refused",  # of the head's instance, as it was launched
        "impersonate": "in-place",  # of the client
    },
    foreign=frozenset({"hosts", "host"}),
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
        kubernetes=Kubernetes(
            "gke",
            spot={"cloud.google.com/gke-spot": "true"},
            spot_taint=("cloud.google.com/gke-spot", "true"),
            gpu_label="cloud.google.com/gke-accelerator",
            gpus={
                "A100-40GB": "nvidia-tesla-a100",
                "A100-80GB": "nvidia-a100-80gb",
                "B200": "nvidia-b200",
                "H100": "nvidia-h100-80gb",
                "H200": "nvidia-h200-141gb",
                "L4": "nvidia-l4",
                "P100": "nvidia-tesla-p100",
                "P4": "nvidia-tesla-p4",
                "T4": "nvidia-tesla-t4",
                "V100": "nvidia-tesla-v100",
            },
        ),
        region="us-central1",
        zone="{region}-a",
        user="ubuntu",
        catalogue="gcp",
        reach=WAYS,
        here_only=cloud.HERE_ONLY | {"impersonate"},
        key_file="GOOGLE_APPLICATION_CREDENTIALS",
        markets=(*MARKETS, "flex-start"),
        reservation=IdForm(gcp_names.RESERVATION, "my-reservation"),
    ),
    ray_up=RayUp(
        "gcp",
        settings={"region": "region", "project_id": "project"},
        zones="availability_zone",
        instance="machineType",
        disk="disks.0.initializeParams.diskSizeGb",
        image="disks.0.initializeParams.sourceImage",
        spot={
            "scheduling.preemptible": "true",
            "scheduling.0.preemptible": "true",
            "scheduling.provisioningModel": "spot",
            "scheduling.0.provisioningModel": "spot",
        },
        devices="guestAccelerators",
    ),
)
