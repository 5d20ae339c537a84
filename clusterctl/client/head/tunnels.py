"""Finding the tunnel to a cluster's head, and starting it where none runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.processes import arguments_of, is_running
from clusterctl.client.registry import Cluster, read_json
from clusterctl.core.errors import Unreachable
from clusterctl.provision import isolated

START_SECONDS = 30.0
END_SECONDS = 5.0
PROGRAM = "clusterctl.client.head.tunnel"


def begin(cluster: Cluster) -> subprocess.Popen[bytes] | None:
    """Starts a tunnel unless one runs, and does not wait for it."""
    return None if _living(cluster.directory) else start(cluster)


def tunnel_port(cluster: Cluster, process: subprocess.Popen[bytes] | None = None) -> int:
    """The local port of the tunnel, which is started when it does not run. `process` is one that was begun already. Raises
    Unreachable."""
    found = _living(cluster.directory)
    if found:
        return found
    process = process or start(cluster)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = _living(cluster.directory)
        if found:
            return found
        if process.poll() is not None:
            said = read_json(cluster.directory / "tunnel.json").get("error") or f"see {cluster.directory}/tunnel.log"
            raise Unreachable(
                f"the head's machine of cluster {cluster.name!r} cannot be reached: {said.rstrip('.')}; {what_to_do(cluster)}"
            )
        time.sleep(0.01)
    raise Unreachable(f"the head's machine of cluster {cluster.name!r} did not answer for {START_SECONDS:g} s")


def head_port(cluster: Cluster) -> int:
    """The port on the head's machine to which the tunnel leads; 0 while it never got there."""
    return int(read_json(cluster.directory / "tunnel.json").get("head_port") or 0)


def trouble(cluster: Cluster) -> str:
    """Why the last try to get through the tunnel failed, "" when it did not."""
    return str(read_json(cluster.directory / "tunnel.json").get("trouble") or "")


def what_to_do(cluster: Cluster) -> str:
    """What brings a head back that cannot be reached."""
    again = f"`clusterctl up {cluster.spec_path or 'SPEC'}`"
    if cluster.on_hosts:
        return f"{again} looks at its host and says what is wrong"
    return (
        f"{again} opens port 22 for this machine where its address has changed, replaces an instance that is gone, and says "
        "what else is wrong"
    )


def start(cluster: Cluster) -> subprocess.Popen[bytes]:
    """Starts a tunnel in a session of its own: it serves later commands as well."""
    (cluster.directory / "tunnel.json").unlink(missing_ok=True)
    log = os.open(cluster.directory / "tunnel.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(
            [*isolated.module(PROGRAM), str(cluster.directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def stop(cluster: Cluster) -> None:
    """Ends the tunnel; the next command digs another one."""
    document = read_json(cluster.directory / "tunnel.json")
    pid = int(document.get("pid") or 0)
    if _is_tunnel(pid, cluster.directory):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not _is_tunnel(pid, cluster.directory), Backoff(0.01, 0.01, seconds=END_SECONDS))


def _living(directory: Path) -> int:
    """Its port, when it really is our tunnel: after a crash another user's process may have the port, and would get the token."""
    document = read_json(directory / "tunnel.json")
    port = int(document.get("port") or 0)
    return port if port and _is_tunnel(int(document.get("pid") or 0), directory) else 0


def _is_tunnel(pid: int, directory: Path) -> bool:
    if not is_running(pid):  # of this user: anybody can start a program with these words in its command line
        return False
    arguments = arguments_of(pid)
    return os.fsencode(directory) in arguments and PROGRAM.encode() in arguments
