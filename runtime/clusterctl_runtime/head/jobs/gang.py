"""What the ranks of an attempt are told of each other: who they are, where they meet, and the variables that say so."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl_runtime.head.jobs.job import Attempt, Job, number_of
from clusterctl_runtime.head.nodes.ledger import NodeLedger

FIRST_PORT, PORTS = 20_000, 10_000  # above the engine's, below the ephemeral ones


def gang_environment(job: Job, attempt: Attempt, rank: int, addresses: Sequence[str]) -> dict[str, str]:
    """Ours, which every job has; torchrun's where the job asked for nodes, one rank per node, so local rank 0 of 1. A plain
    program must not take itself for a rank."""
    environment = {
        "CLUSTERCTL_JOB_ID": job.id,
        "CLUSTERCTL_ATTEMPT": str(number_of(attempt.id)),
        "CLUSTERCTL_RANK": str(rank),
        "CLUSTERCTL_NODE_ID": attempt.nodes[rank],
        "CLUSTERCTL_HOSTS": ",".join(addresses),
    }
    if job.array_index is not None:
        environment["CLUSTERCTL_ARRAY_INDEX"] = str(job.array_index)
    if job.is_gang:
        environment |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(attempt.nodes)),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "GROUP_RANK": str(rank),
            "NODE_RANK": str(rank),
            "MASTER_ADDR": addresses[0],
            "MASTER_PORT": str(gang_port(attempt)),
        }
    return environment


def gang_port(attempt: Attempt) -> int:
    """Where rank 0 listens. All ranks must know it before any is started, so it follows from the attempt; rank 0's agent looks
    whether it is free, and if not the next attempt has another one."""
    return FIRST_PORT + zlib.crc32(attempt.id.encode()) % PORTS


def replica_port(service: Mapping[str, Any], attempt: Attempt) -> int:
    """Where a replica of a service listens: where its user said, or as rank 0 of a gang would."""
    return int(service["port"]) or gang_port(attempt)


def with_port(argv: Sequence[str], port: int) -> list[str]:
    """The command with the port in place of `{port}`."""
    return [word.replace("{port}", str(port)) for word in argv]


def gang_addresses(books: Sequence[NodeLedger | None]) -> list[str]:
    """By rank, as the other ranks reach them: a loopback address is right only where all are on one machine. A node that has
    dialled its head by one tells how it goes out."""
    told = [one.address if one and one.address else "127.0.0.1" for one in books]
    if all(map(_is_loopback, told)):
        return told
    outward = [str((one.facts if one else {}).get("outward") or "") for one in books]
    return [out if out and _is_loopback(address) else address for address, out in zip(told, outward, strict=True)]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
