"""Finding the tunnel to a cluster's head, and starting it where none runs."""

from __future__ import annotations

import subprocess
import time

from clusterctl.client.head.companion import Companion
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import Unreachable

START_SECONDS = 30.0
PROGRAM = "clusterctl.client.head.tunnel"


def begin(cluster: Cluster) -> subprocess.Popen[bytes] | None:
    """Starts a tunnel unless one runs, and does not wait for it."""
    return None if _living(cluster) else start(cluster)


def tunnel_port(cluster: Cluster, process: subprocess.Popen[bytes] | None = None) -> int:
    """The local port of the tunnel, which is started when it does not run. `process` is one that was begun already. Raises
    Unreachable."""
    found = _living(cluster)
    if found:
        return found
    process = process or start(cluster)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = _living(cluster)
        if found:
            return found
        if process.poll() is not None:
            said = _tunnel(cluster).said().get("error") or f"see {cluster.directory}/tunnel.log"
            raise Unreachable(
                f"the head's machine of cluster {cluster.name!r} cannot be reached: {said.rstrip('.')}; {what_to_do(cluster)}"
            )
        time.sleep(0.01)
    raise Unreachable(f"the head's machine of cluster {cluster.name!r} did not answer for {START_SECONDS:g} s")


def head_port(cluster: Cluster) -> int:
    """The port on the head's machine to which the tunnel leads; 0 while it never got there."""
    return int(_tunnel(cluster).said().get("head_port") or 0)


def trouble(cluster: Cluster) -> str:
    """Why the last try to get through the tunnel failed, "" when it did not."""
    return str(_tunnel(cluster).said().get("trouble") or "")


def what_to_do(cluster: Cluster) -> str:
    """What brings a head back that cannot be reached."""
    again = f"`clusterctl up {cluster.spec_path or 'SPEC'}`"
    if cluster.on_hosts:
        return f"{again} looks at its host and says what is wrong"
    if cluster.machine == "pod":
        return f"{again} makes its pod anew where that is gone, and says what else is wrong"
    return (
        f"{again} opens port 22 for this machine where its address has changed, replaces an instance that is gone, and says "
        "what else is wrong"
    )


def start(cluster: Cluster) -> subprocess.Popen[bytes]:
    """Starts a tunnel, which serves later commands as well."""
    return _tunnel(cluster).start()


def stop(cluster: Cluster) -> None:
    """Ends the tunnel; the next command digs another one."""
    _tunnel(cluster).stop()


def _tunnel(cluster: Cluster) -> Companion:
    return Companion(cluster.directory, PROGRAM, "tunnel")


def _living(cluster: Cluster) -> int:
    """Its port; 0 where none runs."""
    return int(_tunnel(cluster).living().get("port") or 0)
