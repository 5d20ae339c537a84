"""A cluster that may be in either of two pretended clouds, whose machines never come up: `up` ends where it would log in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.gcp.provider import GcpProvider

from clusterctl.cli.call import Call
from clusterctl.cli.verbs.up import Attempt
from clusterctl.client.down.take_down import take_down
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import read_places
from clusterctl.client.up.placing import Placing
from clusterctl.client.up.timeline import Stopwatch
from tests.cloud.aws import cloud as aws
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT
from tests.cloud.gcp.world import REGION as GOOGLE_REGION
from tests.support.cluster import with_packages

AWS, GOOGLE = f"aws/{aws.REGION}", f"gcp/{GOOGLE_REGION}"
LOGIN = "could not be logged in to"  # how far an `up` comes that has all machines
SPEC = """\
cluster: demo
provider:
{places}
{more}
engine: none
auth: {{port: 9}}
head: {{instance: {{aws: t3.large, gcp: e2-standard-2}}}}
pools: [{{name: cpu, instances: {{aws: [t3.micro], gcp: [e2-medium]}}, min: 2, max: 4}}]
"""


class Clouds:
    """Both at once. `places` are the items of `provider`, by name."""

    def __init__(self, amazon: aws.AwsCloud, google: GcpCloud) -> None:
        self.aws, self.google = amazon, google
        self.places = {
            AWS: f'aws: {{region: {aws.REGION}, vpc: {amazon.vpc}, endpoint_url: "{amazon.url}", reach: private, '
            "calls_per_second: 500}",
            GOOGLE: f'gcp: {{project: {PROJECT}, region: {GOOGLE_REGION}, endpoint_url: "{google.url}", reach: private, '
            "calls_per_second: 500}",
        }

    def sold_out(self, name: str, what: str) -> None:
        """`what`: "head" or "cpu"."""
        types = {"head": ("t3.large", "e2-standard-2"), "cpu": ("t3.micro", "e2-medium")}[what]
        if name == AWS:
            self.aws.world.capacity[f"{types[0]}/*/*"] = 0
        else:
            self.google.world.capacity[f"{types[1]}/*/*"] = 0

    def left(self, name: str) -> list[str]:
        """What somebody made there and did not remove."""
        return self.aws.leftovers() if name == AWS else self.google.leftovers()

    def machines(self, name: str) -> list[str]:
        """Types of those that cost money there."""
        if name == AWS:
            return sorted(i.instance_type for i in self.aws.instances())
        return sorted(i.type for i in self.google.instances())


@contextlib.contextmanager
def clouds() -> Iterator[Clouds]:
    """Their lists do not lag: nothing is waited for before the second look at what is empty."""
    with (
        pytest.MonkeyPatch.context() as patch,
        aws.credentials(),
        aws.AwsCloud("127.77.0.0/16") as amazon,
        GcpCloud("127.78.0.0/16") as google,
    ):
        for provider in (AwsProvider, GcpProvider):
            patch.setattr(provider, "settle_seconds", 0.1)
            patch.setattr(provider, "in_flight_seconds", 0.1)
        amazon.world.consoles = google.world.consoles = lambda instance_id: "Kernel panic - not syncing"
        with google.credentials():
            yield Clouds(amazon, google)


class Home:
    """A cluster in a home of its own."""

    def __init__(self, directory: Path, both: Clouds, *names: str, more: str = "") -> None:
        """`names` of places, in the order in which they are written; default: both."""
        directory.mkdir(exist_ok=True)
        self.registry, self.said, self.both = Registry(with_packages(directory / "home"), {}), list[str](), both
        self.path = directory / "cluster.yaml"
        self.write(*names, more=more)

    def write(self, *names: str, more: str = "") -> None:
        listed = [f"  - {self.both.places[name]}" for name in names or (AWS, GOOGLE)]
        self.path.write_text(SPEC.format(places="\n".join(listed), more=more))

    def up(self, start: str = "", tell: Callable[[str], None] | None = None) -> tuple[Any, Any]:
        self.said.clear()
        placing = Placing(self.registry, read_places(self.path), start, tell or self.said.append)
        return Attempt(Call(quiet=True), self.registry, placing, True, 60.0, Stopwatch(), None).somewhere()

    def down(self) -> None:
        take_down(self.registry, self.cluster, self.said.append)

    @property
    def cluster(self) -> Cluster:
        return self.registry.load("demo")
