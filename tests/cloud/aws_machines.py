"""Gives every running instance of an AwsCloud a machine, and takes it away with the instance."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.cloud import aws_moto
from tests.cloud.aws_cloud import REGION, AwsCloud
from tests.cloud.aws_identity import session_of
from tests.cloud.machines import GATEWAY, Machines, MachineSpec

INTERRUPTION = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"


class AwsMachines:
    """Closes with the cloud. `interrupt` announces the end of a spot instance as EC2 does, and carries it out later."""

    def __init__(self, cloud: AwsCloud, gateway: str = f"{GATEWAY}/16", never_boots: bool = False) -> None:
        self.cloud, self.never_boots = cloud, never_boots
        self.clock_of: Callable[[Any], int] = lambda instance: 0  # seconds by which its machine's clock is wrong
        self.machines = Machines(gateway, self._powered_off)
        self._url = cloud.url
        cloud.url = cloud.listen(str(self.machines.gateway.ip))  # as the machines reach it
        cloud.world.disks = self.machines.disks
        cloud.world.consoles = self.machines.console
        cloud.world.listeners.append(self._changed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="aws-machines", daemon=True)
        self._thread.start()

    def __enter__(self) -> AwsMachines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)
        world = self.cloud.world
        world.listeners.remove(self._changed)
        world.disks = world.consoles = None
        self.cloud.url = self._url
        self.machines.close()

    def warn(self, instance_id: str, seconds: float = 120.0) -> None:
        """The notice two minutes before; what happens then is `cloud.interrupt`."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        self.machines.set_fact(instance_id, INTERRUPTION, f'{{"action": "terminate", "time": "{at}"}}')

    def recommend_rebalance(self, instance_id: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.machines.set_fact(instance_id, REBALANCE, f'{{"noticeTime": "{at}"}}')

    def _changed(self, state: str, instance: Any) -> None:
        if state == "running" and not self.never_boots:
            self.machines.boot(self._spec(instance))
        elif state == "stopping":
            self.machines.halt(instance.id)
        elif state in ("shutting-down", "terminated"):
            threading.Thread(target=self.machines.destroy, args=(instance.id,), daemon=True).start()

    def _spec(self, instance: Any) -> MachineSpec:
        key = instance.ec2_backend.key_pairs.get(instance.key_name)
        public = key.material_public if key else b""
        facts = {
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
            base64.b64decode(instance.user_data.as_bytes()) if instance.user_data else b"",
            public.decode() if isinstance(public, bytes) else str(public),
            facts,
            lambda: session_of(self.cloud.world, instance),
            public=instance.public_ip or "",
            clock=self.clock_of(instance),
        )

    def _powered_off(self, instance_id: str) -> None:
        """Instance-initiated shutdown: what happens then is the instance's attribute."""
        instance = aws_moto.ec2_backends[aws_moto.ACCOUNT][REGION].get_instance(instance_id)
        if instance.instance_initiated_shutdown_behavior == "terminate":
            instance.terminate()
        else:
            instance.stop()

    def _keep_time(self) -> None:
        """Instances begin to run though nobody asks for them."""
        while not self._stop.wait(0.05):
            aws_moto.advance(REGION)
