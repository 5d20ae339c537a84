"""Runs as a driver of the queue beside Ray's head: Ray's server for `ray://` on a free port of 127.0.0.1, which it prints.

Sent whole, for the engine's Python. Ends when nobody has been connected for as many seconds as its argument says.
"""

# pyright: basic
from __future__ import annotations

import os
import socket
import sys
import threading
import time

LOOK_SECONDS = 5.0
START_SECONDS = 120.0


def server_arguments(address: str, port: int) -> list[str]:
    """Those of Ray's program, for the head node of the cluster at `address`."""
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

    nodes = GcsClient(address=address).get_all_node_info(timeout=60).values()
    head = next(node for node in nodes if node.is_head_node and node.state == node.ALIVE)
    return [
        f"--address={address}",
        "--host=127.0.0.1",
        f"--port={port}",
        "--mode=proxy",
        f"--runtime-env-agent-address=http://{head.node_manager_address}:0",  # it asks Ray for the port
        f"--node-id={head.node_id.hex()}",
    ]


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Returns when it was unused for long enough, or does not start."""
    import psutil
    import ray  # noqa: F401  brings psutil
    from ray.util.client.server import server

    idle = float(sys.argv[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sys.argv = [sys.argv[0], *server_arguments(os.environ["RAY_ADDRESS"], port)]
    threading.Thread(target=server.main, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while not listens(port):
        if time.monotonic() > deadline:
            sys.exit(f"Ray's server for ray:// did not listen within {START_SECONDS:.0f} s")
        time.sleep(0.05)
    print(f"clusterctl-ray-client {port}", flush=True)
    used, own = time.monotonic(), psutil.Process()
    while time.monotonic() - used < idle:
        time.sleep(LOOK_SECONDS)
        lines = own.net_connections("tcp")
        if any(line.status == psutil.CONN_ESTABLISHED and line.laddr.port == port for line in lines):
            used = time.monotonic()


if __name__ == "__main__":
    main()
