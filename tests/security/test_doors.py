"""What a cluster leaves open: loopback, and nothing without a token."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from clusterctl.proof import is_proof, new_challenge
from tests.security.knocking import Api
from tests.support.cluster import LocalCluster, wait_until

RAY = """\
cluster: demo
provider: local
pools:
  - {name: cpu, min: 1, max: 1, resources: {CPU: 1}}
"""
# The request with which public scanners turn an open Ray dashboard into a shell (CVE-2023-48022).
EXPLOIT = json.dumps({"entrypoint": "id > /tmp/pwned", "submission_id": "x", "runtime_env": {}}).encode()


def address_of(connection: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(connection.laddr.ip)
    return getattr(address, "ipv4_mapped", None) or address


def sockets_open_to_others(cluster: LocalCluster) -> list[str]:
    """Listening TCP and bound UDP sockets of every process of the cluster that are not on loopback."""
    found = []
    for process in cluster.processes():
        try:
            for c in process.net_connections("inet"):
                bound = c.status == psutil.CONN_LISTEN or (c.type == socket.SOCK_DGRAM and not c.raddr)
                if bound and not address_of(c).is_loopback:
                    found.append(f"{process.name()} {c.laddr.ip}:{c.laddr.port}")
        except psutil.Error:
            continue
    return found


def test_every_socket_of_a_cluster_is_on_loopback(cluster: LocalCluster, api: Api) -> None:
    api.run(argv=["true"])
    listening = [c for p in cluster.processes() for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 2
    assert sockets_open_to_others(cluster) == []


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/jobs", "/api/v1/jobs", "/api/v1/jobs:batch"])
def test_the_public_exploit_of_rays_job_api_is_unauthenticated_at_the_head(api: Api, path: str) -> None:
    for token in ("", "wrong", "a" * 43):
        assert api.call("POST", path, EXPLOIT, token=token).status == 401
    assert api.call("POST", path, EXPLOIT).status in (404, 405, 422)


def test_the_head_proves_that_it_is_the_head_to_whoever_asks_and_tells_nothing_by_it(api: Api) -> None:
    challenge = new_challenge()
    said = api.call("GET", f"/healthz?challenge={challenge}", token="").document
    assert is_proof(said["proof"], api.token, challenge, api.port)
    assert api.call("GET", f"/healthz?challenge={new_challenge()}", token="").document["proof"] != said["proof"]
    assert api.call("GET", "/api/v1/status", token=said["proof"]).status == 401
    for odd in ("", "x", "A" * 32, challenge * 2, challenge[:-1], f"{challenge}%0a"):
        assert "proof" not in api.call("GET", f"/healthz?challenge={odd}", token="").document


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path_factory.mktemp("ray"), RAY)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.clean_up()


def test_every_socket_of_a_cluster_with_ray_is_on_loopback_and_none_runs_a_job_for_a_stranger(
    ray_cluster: LocalCluster,
) -> None:
    wait_until(lambda: ray_cluster.status()["engine"]["state"] == "ready", what="the engine is ready")
    assert sockets_open_to_others(ray_cluster) == []
    places = {
        (str(address_of(c)), c.laddr.port)
        for p in ray_cluster.processes()
        for c in p.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    statuses = [status for place in sorted(places) if (status := replay(*place))]
    assert 401 in statuses
    assert not [status for status in statuses if status < 400]


def replay(host: str, port: int) -> int:
    """The status that the exploit gets there; 0 where nobody speaks HTTP."""
    request = urllib.request.Request(
        f"http://{f'[{host}]' if ':' in host else host}:{port}/api/jobs/",
        EXPLOIT,
        {"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0
