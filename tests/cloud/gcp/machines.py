"""Google's face of the machines: what the metadata server tells of an instance, and what becomes of one that turns itself off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.cloud.booter import Booter, Step
from tests.cloud.gcp import metadata as gcp_metadata
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER
from tests.cloud.machines import GATEWAY, MachineSpec
from tests.cloud.world import World

USER = "ubuntu"  # whom the machines know
_TOKEN_LEFT = 300.0  # a token is given out again until so many seconds before its end


class GcpFace:
    name = "gcp"
    steps: Mapping[str, Step] = {
        "RUNNING": "boot",
        "STOPPING": "halt",
        "SUSPENDING": "halt",
        "DEPROVISIONING": "destroy",
    }
    dialect = staticmethod(gcp_metadata.answer)

    def __init__(self, cloud: GcpCloud) -> None:
        self.cloud = cloud
        self.world: World = cloud.world
        self._tokens: dict[str, tuple[str, float]] = {}  # instance -> (token, until: by the world's clock)

    @property
    def url(self) -> str:
        return self.cloud.url

    @url.setter
    def url(self, url: str) -> None:
        self.cloud.url = url

    def listen(self, address: str) -> str:
        return self.cloud.listen(address)

    def machine_of(self, instance: Instance, clock: int) -> MachineSpec:
        """As its metadata are now: the guest agent reads them at each boot."""
        public = [c.get("natIP", "") for c in instance.body["networkInterfaces"][0].get("accessConfigs", [])]
        metadata = instance.metadata
        user, keys = USER, _keys(metadata)
        if metadata.get("enable-oslogin", "").upper() == "TRUE":
            user, keys = self.cloud.os_login.let_in(instance.key)
        return MachineSpec(
            instance.id,
            instance.address,
            authorized_key=keys,
            user=user,
            facts=_facts(instance, public[0] if public else ""),
            fresh=lambda: self._fresh(instance),
            public=public[0] if public else "",
            clock=clock,
            startup=metadata.get("startup-script", "").encode(),
            hosts=gcp_metadata.HOSTS,
            hostname=instance.name,
            keeps_disk=True,
        )

    def _fresh(self, instance: Instance) -> dict[str, str]:
        """What changes while it runs."""
        found = {f"instance/attributes/{key}": value for key, value in instance.metadata.items()}
        found["instance/preempted"] = "TRUE" if instance.preempted else "FALSE"
        found["instance/maintenance-event"] = instance.maintenance
        for account in instance.body.get("serviceAccounts", []):
            for name in ("default", account["email"]):
                place = f"instance/service-accounts/{name}"
                found[f"{place}/email"] = account["email"]
                found[f"{place}/scopes"] = "\n".join(account["scopes"]) + "\n"
                found[f"{place}/token"] = self._token(instance, account)
        return found

    def _token(self, instance: Instance, account: Mapping[str, Any]) -> str:
        now = self.world.clock()
        token, until = self._tokens.get(instance.id, ("", 0.0))
        if until - now <= _TOKEN_LEFT:
            token, seconds = self.cloud.tokens.issue(account["email"], tuple(account["scopes"]))
            until = now + seconds
            self._tokens[instance.id] = (token, until)
        return json.dumps({"access_token": token, "expires_in": int(until - now), "token_type": "Bearer"})

    def disk_link(self, disk_id: str) -> str:
        return f"by-id/google-{self.cloud.device_names.get(disk_id, disk_id)}"

    def powered_off(self, instance_id: str) -> None:
        self.cloud.shut_down(instance_id)

    def advance(self) -> None:
        self.cloud.compute.advance()


class GcpMachines(Booter):
    """Machines for the instances of a GcpCloud. Notices are `cloud.preempt` (with `world.preempt_seconds`) and `cloud.warn`."""

    def __init__(self, cloud: GcpCloud, gateway: str = f"{GATEWAY}/16", never_boots: bool = False) -> None:
        self.cloud = cloud
        super().__init__(GcpFace(cloud), gateway, never_boots)

    def __enter__(self) -> GcpMachines:
        return self

    def id_of(self, handle: str) -> str:
        """A machine's id, of an instance ZONE/NAME."""
        return self.cloud.instance(handle).id


def _keys(metadata: Mapping[str, str]) -> str:
    """The public keys of the one user that the machines know."""
    lines = [line.partition(":") for line in metadata.get("ssh-keys", "").splitlines()]
    return "".join(f"{key}\n" for user, _, key in lines if user == USER)


def _facts(instance: Instance, public: str) -> dict[str, str]:
    body = instance.body
    found = {
        "project/project-id": PROJECT,
        "project/numeric-project-id": PROJECT_NUMBER,
        "instance/id": instance.id,
        "instance/name": instance.name,
        "instance/hostname": f"{instance.name}.{instance.zone}.c.{PROJECT}.internal",
        "instance/zone": f"projects/{PROJECT_NUMBER}/zones/{instance.zone}",
        "instance/machine-type": f"projects/{PROJECT_NUMBER}/machineTypes/{instance.type}",
        "instance/tags": json.dumps(body["tags"].get("items", [])),
        "instance/scheduling/preemptible": "TRUE" if body["scheduling"]["preemptible"] else "FALSE",
        "instance/scheduling/on-host-maintenance": body["scheduling"]["onHostMaintenance"],
        "instance/network-interfaces/0/ip": instance.address,
        "instance/network-interfaces/0/network": f"projects/{PROJECT_NUMBER}/networks/default",
    }
    for disk in body["disks"]:
        found[f"instance/disks/{disk['index']}/device-name"] = disk["deviceName"]
    if public:
        found["instance/network-interfaces/0/access-configs/0/external-ip"] = public
    return found
