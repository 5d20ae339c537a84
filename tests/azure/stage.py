"""A provider of the stand-in, requests for it, and a provisioner over it on one clock."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.base import (
    TAG_CLUSTER,
    TAG_GENERATION,
    TAG_NODE,
    TAG_TOKEN,
    TAG_UID,
    CreateRequest,
    HeadMachine,
    PoolRequest,
    ProviderContext,
)  # fmt: skip

from clusterctl.core.model import (
    Demand,
    Launch,
    Node,
    NodeState,
    NodeView,
    Offer,
    Plan,
    Policy,
    Pool,
    Reason,
    Shape,
    State,
    launch_token,
)
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.provisioner import Outcome, Provisioner
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

TYPES = ["Standard_B2s", "Standard_D2s_v5"]
BOTH = ["spot", "on-demand"]


PUT, DELETE = "virtualMachines.createOrUpdate", "virtualMachines.delete"
MACHINES = "Microsoft.Compute/virtualMachines"


def vms(cloud: AzureCloud, *states: str) -> list[dict[str, Any]]:
    """The VMs that there are, with these provisioning states, or all; no delay hides them."""
    with cloud.world.lock:
        cloud.advance()
        rows = cloud.store.of_type(MACHINES)
    return [row for row in rows if not states or row["properties"]["provisioningState"] in states]


def names(cloud: AzureCloud, *states: str) -> list[str]:
    return sorted(row["name"] for row in vms(cloud, *states))


def launches(cloud: AzureCloud) -> list[dict[str, Any]]:
    """The bodies of all calls that launch."""
    return [parameters["body"] for _, _, parameters in cloud.world.calls if parameters["operation"] == PUT]


def machines_of(cloud: AzureCloud) -> Any:
    """An administrator's view of the VMs."""
    from azure.mgmt.compute import ComputeManagementClient

    return cloud.client(ComputeManagementClient).virtual_machines


def pool(name: str = "cpu", **spec: Any) -> PoolRequest:
    return PoolRequest(name, {"instances": TYPES, "market": ["on-demand"], "orphan_timeout": 900.0, **spec})


class Stage:
    """`now` is everybody's clock; calls to Azure go over HTTP in real time."""

    def __init__(
        self, directory: Path, cloud: AzureCloud, pools: list[PoolRequest] | None = None, **settings: Any
    ) -> None:
        self.directory, self.cloud, self.uid = directory, cloud, str(uuid.uuid4())
        self.settings = {
            "subscription": SUBSCRIPTION,
            "region": REGION,
            "endpoint_url": cloud.url,
            "calls_per_second": 500.0,
            **settings,
        }
        self.now = time.time()
        self.pools = pools or [pool(market=BOTH)]
        self.provider = self.open()
        self.journal = Journal(directory / "nodes.db", strict=True)
        self.journal.acquire("test")
        self.provisioner = Provisioner(
            self.journal, {"azure": self.provider}, _bootstrap, cluster="demo", uid=self.uid, clock=lambda: self.now,
            pause=self.pause, pools=self.pools,
        )  # fmt: skip

    def open(
        self, auth: dict[str, Any] | None = None, head_machine: HeadMachine | None = None, **settings: Any
    ) -> AzureProvider:
        state, settings = str(self.directory / "state"), {**self.settings, **settings}
        return AzureProvider(ProviderContext("demo", self.uid, state, settings, auth or {}, head_machine))

    def pause(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(min(seconds, 0.02))

    def request(self, node_id: str, of: Offer | None = None, wanted: PoolRequest | None = None) -> CreateRequest:
        wanted = wanted or self.pools[0]
        offer = of or self.provider.offers(wanted)[0]
        token = launch_token(self.uid, node_id, 1)
        tags = {TAG_CLUSTER: "demo", TAG_UID: self.uid, TAG_NODE: node_id, TAG_GENERATION: "1", TAG_TOKEN: token}
        return CreateRequest(token, node_id, 1, offer, tags, {"node_id": node_id, "join_token": "s" * 64}, wanted)

    def want(self, jobs: int, **market: Any) -> list[Outcome]:
        """One turn of the head's loop for `jobs` jobs of one CPU: observe, plan, apply."""
        return self.provisioner.apply(self.planned(jobs, **market))

    def planned(self, jobs: int, *, at: float | None = None, ready: bool = False, **market: Any) -> Plan:
        """What the head would do at that time, as if all nodes were ready."""
        observed = self.provisioner.observe()
        shape = Shape(Resources.of(CPU=1), pool="cpu")
        demand = (Demand("jobs", "job", ((shape, 1),), count=jobs, since=0.0),) if jobs else ()
        known = self.journal.nodes().values()
        nodes = tuple(_view(node) for node in known)
        if ready:
            nodes = tuple(replace(v, node=replace(v.node, state=NodeState.READY), heartbeat=at) for v in nodes)
        state = State(
            cluster="demo",
            uid=self.uid,
            pools=(Pool("cpu", "azure", min=0, max=200),),
            nodes=nodes,
            blocks=self.provisioner.blocks(self.now),
            failures=self.provisioner.failures(self.now),
            next_number=self.journal.next_numbers(),
        )
        return plan(Policy(**market), observed, state, demand, self.provisioner.offers(), at or self.now)

    def launch(self, *offers: Offer) -> list[Outcome]:
        start = len(self.journal.nodes()) + 1
        reason = Reason("demand", "a job waits for it")
        launches = [
            Launch(f"cpu-{n}", 1, launch_token(self.uid, f"cpu-{n}", 1), offer, "worker", "", reason)
            for n, offer in enumerate(offers, start)
        ]
        return self.provisioner.apply(Plan(tuple(launches)))

    def close(self) -> None:
        self.provisioner.close()
        self.journal.close()


def _bootstrap(node: Node, _: PoolRequest) -> dict[str, Any]:
    return {"node_id": node.id, "generation": node.generation, "join_token": "s" * 64, "uid": "u"}


def _view(node: Node) -> NodeView:
    total = node.offer.resources
    return NodeView(node, total, total, heartbeat=None if node.state is not NodeState.READY else node.since)
