"""A service whose replicas are containers: its entry runs on this machine, and reaches them at their own addresses."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any


def test_a_service_in_containers_is_reached_at_its_entry_here(make_cluster: Callable[..., Any], image: str):
    cluster = make_cluster(
        f"""
cluster: demo
provider: {{docker: {{image: {image}}}}}
engine: none
pools:
  - {{name: cpu, min: 0, max: 2, resources: {{CPU: 1}}}}
"""
    )
    program = ("python3", "-m", "http.server", "8000")
    cluster.cli("service", "run", "--name", "web", "--health", "/", "--port", "8000", "--", *program)
    web = cluster.json("service", "status", "web")
    assert not web["members"][0]["address"].startswith("127.")
    token = cluster.cli("service", "token", "web").stdout.strip()
    url = f"http://127.0.0.1:{web['entry_port']}/services/web/"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b"Directory listing" in answer.read()
