"""Requests for nodes of a pool, as the provisioner makes them."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.base import TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID, CreateRequest, PoolRequest

from clusterctl.core.model import Instance, Offer, launch_token
from clusterctl.core.resources import Resources

UID = "11111111-2222-3333-4444-555555555555"


def offer(zone: str = "north-a", instance_type: str = "big", market: str = "spot") -> Offer:
    return Offer("cpu", instance_type, market, zone, 1.0, Resources.of(CPU=4))


def request(node_id: str, of: Offer | None = None, *, generation: int = 1, **pool: Any) -> CreateRequest:
    token = launch_token(UID, node_id, generation)
    tags = {TAG_UID: UID, TAG_NODE: node_id, TAG_GENERATION: str(generation), TAG_TOKEN: token}
    bootstrap = {"node_id": node_id, "generation": generation, "join_token": f"secret of {node_id}", "uid": UID}
    return CreateRequest(token, node_id, generation, of or offer(), tags, bootstrap, PoolRequest("cpu", pool))


def requests(*numbers: int, of: Offer | None = None, **pool: Any) -> list[CreateRequest]:
    return [request(f"cpu-{number}", of, **pool) for number in numbers]


def instance(number: int, node_id: str, generation: int = 1) -> Instance:
    token = launch_token(UID, node_id, generation)
    return Instance(f"vm-{number}", UID, node_id, generation, state="pending", token=token)
