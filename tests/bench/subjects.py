"""The clouds that are measured side by side: what each one's stand-in, stage and machines are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws import cluster as aws_cluster
from tests.aws import stage as aws_stage
from tests.azure import cluster as azure_cluster
from tests.azure import stage as azure_stage
from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machines import AzureMachines
from tests.cloud.azure.world import REGION as AZURE_REGION
from tests.cloud.azure.world import SUBSCRIPTION
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT
from tests.cloud.gcp.world import REGION as GCP_REGION
from tests.gcp import cluster as gcp_cluster
from tests.gcp import stage as gcp_stage

# A process that does nothing else: what it needs is the client's, and not the stand-in's.
LOOK = r"""\
import json, re, sys, time
from {module} import {provider}
from clusterctl_providers.base import ProviderContext
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
uid, settings, directory = sys.argv[1:]
provider = {provider}(ProviderContext("demo", uid, directory, json.loads(settings)))
{login}
before, started = peak(), time.perf_counter()
(scope,) = provider.list()
print(json.dumps([time.perf_counter() - started, before, peak(), scope.complete, len(scope.instances)]))
"""


@dataclass(frozen=True)
class Subject:
    """`open` takes the network's range ("" for the usual), with credentials in the environment. `launches`: the calls that ask
    for machines. `calls`: what is aimed at for each node. `settings`: where it is, as YAML below the provider's name. `made`:
    how many machines there are. `program` looks at a cluster."""

    title: str
    provider: str
    small: str  # an instance type
    launches: tuple[str, ...]
    calls: str
    library: str  # what is imported to call it
    open: Callable[[str], AbstractContextManager[Any]]
    settings: Callable[[Any], dict[str, Any]]
    stage: Any  # a module with Stage, pool and BOTH
    machines: Callable[[Any, str], AbstractContextManager[Any]]
    cluster: Callable[[Path, Any, Any, str, str, str], Any]
    made: Callable[[Any], int]
    program: str


@contextmanager
def _aws(cidr: str) -> Iterator[AwsCloud]:
    with credentials(), AwsCloud(cidr) if cidr else AwsCloud() as cloud:
        yield cloud


@contextmanager
def _gcp(cidr: str) -> Iterator[GcpCloud]:
    with GcpCloud(cidr) as cloud, cloud.credentials():
        yield cloud


@contextmanager
def _azure(cidr: str) -> Iterator[AzureCloud]:
    """A cluster there brings a network of its own, where its machines are."""
    with AzureCloud() as cloud, cloud.credentials():
        yield cloud


def _instances(cloud: Any) -> int:
    return len(cloud.instances())


SUBJECTS = (
    Subject(
        "AWS", "aws", "t3.micro", ("ec2:RunInstances",), "<= 0.1", "boto3",
        _aws, lambda cloud: {"region": REGION, "endpoint_url": cloud.url}, aws_stage, AwsMachines, aws_cluster.AwsCluster,
        _instances,
        LOOK.format(module="clusterctl_providers.aws.provider", provider="AwsProvider", login='provider._calls._client("ec2")'),
    ),
    Subject(
        "Google Cloud", "gcp", "e2-small", ("compute.instances.bulkInsert", "compute.instances.insert"), "<= 0.1",
        "google.auth, requests",
        _gcp, lambda cloud: {"project": PROJECT, "region": GCP_REGION, "endpoint_url": cloud.url}, gcp_stage, GcpMachines,
        gcp_cluster.GcpCluster, _instances,
        LOOK.format(module="clusterctl_providers.gcp.provider", provider="GcpProvider", login="provider._calls.get('', 'look')"),
    ),
    Subject(
        "Azure", "azure", "Standard_B2s", ("Microsoft.Compute/virtualMachines/write",), "<= 1.4: a call each",
        "azure.identity, requests",
        _azure, lambda cloud: {"subscription": SUBSCRIPTION, "region": AZURE_REGION, "endpoint_url": cloud.url}, azure_stage,
        AzureMachines, azure_cluster.AzureCluster, lambda cloud: len(cloud.machines()),
        LOOK.format(
            module="clusterctl_providers.azure.provider", provider="AzureProvider",
            login="provider._calls.get(provider._calls.path(), 'look')",
        ),
    ),
)  # fmt: skip
