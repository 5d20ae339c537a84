"""AWS's face of the machines: what EC2 tells of an instance, and what becomes of one that turns itself off."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.cloud.aws import moto as aws_moto
from tests.cloud.aws.cloud import REGION, AwsCloud
from tests.cloud.aws.identity import session_of
from tests.cloud.aws.metadata import Imds
from tests.cloud.booter import Booter, Step
from tests.cloud.machines import GATEWAY, MachineSpec
from tests.cloud.world import World

INTERRUPTION = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"


class AwsFace:
    name = "aws"
    steps: Mapping[str, Step] = {
        "running": "boot",
        "stopping": "halt",
        "shutting-down": "destroy",
        "terminated": "destroy",
    }

    def __init__(self, cloud: AwsCloud) -> None:
        self.cloud = cloud
        self.world: World = cloud.world
        self.dialect = Imds()

    @property
    def url(self) -> str:
        return self.cloud.url

    @url.setter
    def url(self, url: str) -> None:
        self.cloud.url = url

    def listen(self, address: str) -> str:
        return self.cloud.listen(address)

    def machine_of(self, instance: Any, clock: int) -> MachineSpec:
        key = instance.ec2_backend.key_pairs.get(instance.key_name)
        public = key.material_public if key else b""
        user_data = base64.b64decode(instance.user_data.as_bytes()) if instance.user_data else b""
        facts = {
            "instance-id": instance.id,
            "local-ipv4": instance.private_ip,
            "user-data": user_data.decode("utf-8", "replace"),
            "ami-launch-index": str(instance.ami_launch_index),
            "placement/availability-zone": instance._placement.zone,
            "placement/region": REGION,
            "instance-type": instance.instance_type,
            "hostname": instance.private_dns_name,
            "local-hostname": instance.private_dns_name,
            "public-ipv4": instance.public_ip or "",
            "ami-id": instance.image_id,
            "dynamic/instance-identity/document": json.dumps({"region": REGION, "instanceId": instance.id}),
        }
        return MachineSpec(
            instance.id,
            instance.private_ip,
            user_data,
            public.decode() if isinstance(public, bytes) else str(public),
            facts,
            lambda: session_of(self.cloud.world, instance),
            public=instance.public_ip or "",
            clock=clock,
        )

    def disk_link(self, disk_id: str) -> str:
        return f"by-id/nvme-Amazon_Elastic_Block_Store_{disk_id.replace('-', '')}"

    def powered_off(self, instance_id: str) -> None:
        """Instance-initiated shutdown: what happens then is the instance's attribute."""
        instance = aws_moto.ec2_backends[aws_moto.ACCOUNT][REGION].get_instance(instance_id)
        if instance.instance_initiated_shutdown_behavior == "terminate":
            instance.terminate()
        else:
            instance.stop()

    def advance(self) -> None:
        aws_moto.advance(REGION)


class AwsMachines(Booter):
    """Machines for the instances of an AwsCloud, with EC2's notices."""

    def __init__(self, cloud: AwsCloud, gateway: str = f"{GATEWAY}/16", never_boots: bool = False) -> None:
        self.cloud = cloud
        super().__init__(AwsFace(cloud), gateway, never_boots)

    def __enter__(self) -> AwsMachines:
        return self

    def warn(self, instance_id: str, seconds: float = 120.0) -> None:
        """The notice two minutes before; what happens then is `cloud.interrupt`."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        self.machines.set_fact(instance_id, INTERRUPTION, f'{{"action": "terminate", "time": "{at}"}}')

    def recommend_rebalance(self, instance_id: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.machines.set_fact(instance_id, REBALANCE, f'{{"noticeTime": "{at}"}}')
