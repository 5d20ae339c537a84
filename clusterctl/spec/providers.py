"""The `provider` of a spec: a name, or one name with its settings. A new setting of a provider is a field here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from clusterctl.spec.tags import read_aws_tags
from clusterctl.spec.units import SIZE_PATTERN, parse_size

PROVIDER_NAMES = ("local", "docker", "ssh", "aws", "gcp", "azure", "fake")
CLOUDS = ("aws", "gcp", "azure")

# "x-unit" is for the reference; editors pass over it
SIZE_SCHEMA = {"type": ["string", "integer"], "pattern": SIZE_PATTERN, "minimum": 0, "x-unit": "size"}
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]  # bytes

ProviderName = Literal["local", "docker", "ssh", "aws", "gcp", "azure", "fake"]


def kind_of(value: Any) -> str | None:
    """Which form of a key that has several was written: "text", "list" or "mapping"."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        return "list"
    return "mapping" if isinstance(value, dict | BaseModel) else None


class SpecModel(BaseModel):
    """Base of all: unknown keys are refused, nothing is guessed (`true` is no number, "3" is no number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LocalSettings(SpecModel):
    """Nodes are processes on this machine."""

    grace: Annotated[float, Field(ge=0)] = Field(default=5, description="Seconds that a node gets to end its work.")
    short_dir: str = Field(default="/tmp", description="Where short paths may be made; sockets need them.")  # noqa: S108


class DockerSettings(SpecModel):
    """Nodes are containers."""

    image: str = Field(default="", description="Image of every node, unless a pool names its own.")
    host: str = Field(default="", description="Address of the Docker engine; default: that of the docker command.")
    network: str = Field(default="", description="A network that exists; default: one of the cluster's own.")
    engine_env: str = Field(
        default="",
        description="A virtual environment of this machine that has Ray; containers see it, and the Python that it was "
        "made from, read-only under the same path. Default: the image has Ray.",
        examples=["/opt/ray-env"],
    )
    mounts: list[str] = Field(
        default=[],
        description="Directories of the engine's machine that containers see, as SOURCE[:TARGET[:ro]].",
        examples=[["/data:/data:ro"]],
    )
    ports: list[str] = Field(
        default=[],
        description="Ports of the head node to publish on 127.0.0.1, as PORT or PORT_HERE:PORT_IN_THE_CONTAINER.",
        examples=[["8000", "18265:8265"]],
    )
    shm_size: Size | None = Field(
        default=None, description="Size of /dev/shm of a node; default: half of its memory.", examples=["4GiB"]
    )
    pids: int | None = Field(
        default=None, ge=64, description="Processes and threads that a node may have; default: 16384."
    )
    allow_sudo: bool = Field(
        default=False,
        description="Let programs in the containers gain rights, as sudo and su do; by default the kernel refuses it.",
    )
    gpu_ids: list[str] = Field(
        default=[],
        description="GPUs to hand out, as nvidia-smi names them; default: all that it lists.",
        examples=[["0", "1"]],
    )
    head_address: str = Field(
        default="",
        description="Address of this machine that containers reach; default: their network's gateway. Needed where the "
        "engine is remote or rootless.",
        examples=["192.168.1.20"],
    )


class SshSettings(SpecModel):
    """Nodes are machines that you already have, reached by SSH."""

    config: str = Field(default="", description="SSH client configuration to honour; default: `~/.ssh/config`.")
    address: str = Field(
        default="", description="Address by which the hosts reach the head's; default: where it was logged in to."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port of the head to which the hosts connect: open it in firewalls. Default: 7420, or the next free one.",
    )


class AwsSettings(SpecModel):
    """Nodes are EC2 instances."""

    region: str = Field(default="", description="Region, such as us-east-1.")
    vpc: str = Field(default="default", description="Id of the VPC, or `default`.")
    subnets: list[str] = Field(default=[], description="Subnets to use; default: those of the VPC in the pools' zones.")
    security_groups: list[str] = Field(
        default=[], description="Security groups of the nodes; default: one of the cluster's own."
    )
    profile: str = Field(default="", description="Profile in ~/.aws; default: the usual chain of credentials.")
    instance_profile: str = Field(
        default="", description="IAM instance profile of the head; default: one of the cluster's own."
    )
    worker_profile: str = Field(
        default="",
        description="IAM instance profile of the workers, or `auto` for one of the cluster's own to which you add what "
        "your jobs need; default: none.",
    )
    permissions_boundary: str = Field(
        default="",
        description="ARN of a policy that bounds the roles which are made, where the account wants one; default: none.",
        examples=["arn:aws:iam::123456789012:policy/boundary"],
    )
    head_address: str = Field(
        default="",
        description="Address of this machine that nodes reach: then the head runs here, in the VPC or connected to it, and "
        "not on an instance.",
        examples=["10.0.0.5"],
    )
    ssh_from: list[str] = Field(
        default=[],
        description="Addresses and networks that may reach port 22, and no others; `me` is this machine's public address, "
        "`vpc` the VPC's networks. Default: `me` where the head is reached at a public address, private networks where it is "
        "reached at its private one, `vpc` for `instance-connect`, none for `ssm`, and none where it runs on a machine of yours.",
    )
    reach: Literal["public", "private", "ssm", "instance-connect"] = Field(
        default="public",
        description="How this machine gets to the head's instance: by its public address, by its private one (a VPN, or "
        "`auth.jump`), or through AWS's Session Manager or EC2 Instance Connect, with the `aws` command.",
    )
    head_volume: Size = Field(
        default=20 * 1024**3, description="Size of the head's own volume: its job queue, logs and uploaded files."
    )
    tags: Annotated[dict[str, str], BeforeValidator(read_aws_tags)] = Field(
        default={}, description="Tags for everything that is created, besides ours: 41 at most."
    )
    calls_per_second: Annotated[float, Field(gt=0)] = Field(
        default=5, description="Calls to AWS per second at most; the account's other programs need some as well."
    )
    endpoint_url: str = Field(default="", description="Another endpoint than AWS's own, for stand-ins.")


class GcpSettings(SpecModel):
    """Nodes are Compute Engine instances."""

    project: str = Field(default="", description="Project id.")
    region: str = Field(default="", description="Region, such as us-central1.")
    network: str = Field(default="default", description="VPC network.")
    subnetwork: str = Field(default="", description="Subnetwork; default: that of the network in the region.")
    service_account: str = Field(default="", description="Service account of the head.")
    labels: dict[str, str] = Field(default={}, description="Labels for everything that is created, besides ours.")
    api_endpoint: str = Field(default="", description="Another endpoint than Google's own, for stand-ins.")


class AzureSettings(SpecModel):
    """Nodes are Azure virtual machines."""

    subscription: str = Field(default="", description="Subscription id.")
    region: str = Field(default="", description="Region (Azure's location), such as eastus.")
    resource_group: str = Field(default="", description="Resource group; default: one of the cluster's own.")
    network: str = Field(default="", description="Virtual network; default: one of the cluster's own.")
    subnet: str = Field(default="", description="Subnet of the virtual network.")
    tags: dict[str, str] = Field(default={}, description="Tags for everything that is created, besides ours.")
    base_url: str = Field(default="", description="Another endpoint than Azure's own, for stand-ins.")


class FakeSettings(SpecModel):
    """A deterministic cloud that exists only on this machine's disk, to rehearse failures (docs/rehearsing.md)."""

    boot: Literal["none", "local"] = Field(
        default="none", description="`local`: its machines run real agents, as processes of this machine."
    )
    boot_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="How long a machine boots; default: 30, with `boot: local` 0."
    )
    cloud: Literal["aws", "azure", "gcp"] = Field(default="aws", description="Whose catalogue to use without `types`.")
    region: str = Field(default="us-east-1", description="Region of that catalogue.")
    zones: list[str] = Field(default=[], description="Zones; default: two of the region.")
    types: dict[str, dict[str, float | str]] = Field(
        default={},
        description="Instance types: amounts of resources, `price` and `spot_price` in $/h, `gpu_type`.",
        examples=[{"small": {"CPU": 1, "price": 0.1}}],
    )
    faults: list[dict[str, Any]] = Field(
        default=[], description="The script of misfortunes.", examples=[[{"kind": "no_capacity", "times": 3}]]
    )
    linger: Annotated[float, Field(ge=0)] = Field(default=0, description="Seconds that ended machines stay in lists.")
    speed: Annotated[float, Field(gt=0)] = Field(default=1, description="Its clock runs so many times as fast.")
    directory: str = Field(default="", description="Where it lives; default: with the cluster.")


class ProviderSettings(SpecModel):
    """One provider with its settings."""

    local: LocalSettings | None = None
    docker: DockerSettings | None = None
    ssh: SshSettings | None = None
    aws: AwsSettings | None = None
    gcp: GcpSettings | None = None
    azure: AzureSettings | None = None
    fake: FakeSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_has_no_settings(cls, value: Any) -> Any:
        """`provider: {docker: }` is `provider: {docker: {}}`, where it is the only one."""
        if isinstance(value, dict) and len(value) == 1:
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> ProviderSettings:
        if len(self.names()) != 1:
            named = " and ".join(self.names()) or "none"
            raise ValueError(
                f"a cluster has one provider, here {named}: write one, as in `provider: {{aws: {{region: us-east-1}}}}`"
            )
        return self

    def names(self) -> list[str]:
        """Those that the user named."""
        return [name for name in PROVIDER_NAMES if getattr(self, name) is not None]

    def settings(self) -> dict[str, Any]:
        """What the user set, as plain data; defaults are left out."""
        return getattr(self, self.names()[0]).model_dump(mode="json", exclude_defaults=True)


Provider = Annotated[
    Annotated[ProviderName, Tag("text")] | Annotated[ProviderSettings, Tag("mapping")],
    Discriminator(kind_of),
]
