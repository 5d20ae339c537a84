"""Where a cluster's head listens, and a connection to it that is opened for nobody else.

`connect` hands out a connection only after the head has proven who it is: after a reboot or a crash any program of any user
may have the port that head.json names, or the one that a tunnel remembers, and would be handed the token.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from clusterctl.client.ended import note_of, sentence
from clusterctl.client.processes import is_running, is_same
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import Unreachable
from clusterctl.proof import is_proof, new_challenge

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
_MOST = 1 << 16  # bytes that are read of an answer from whoever it may be


class Gone(Unreachable):
    """There is no head, and nobody who would start one: waiting for it is of no use."""


class Ended(Gone):
    """The cluster has ended itself: nothing of it runs."""


class Unproven(Unreachable):
    """Something listens, and it is not known to be the head: it got no token."""


@dataclass(frozen=True)
class Endpoint:
    """`head_port` is the one on which the head itself listens, where another one leads to it. `why` says, after a connection
    was cut, what is known of the reason and what to do: "" for nothing."""

    host: str
    port: int
    token: str
    why: Callable[[], str] = str
    head_port: Callable[[], int] | None = None


def locate(cluster: Cluster) -> Endpoint:
    """Where the head of `cluster` listens now. A head on this machine says so itself in head.json, since its port may
    change when it is started again. Raises Unreachable where none can be listening."""
    if note := note_of(cluster):
        raise Ended(sentence(cluster, note))
    client = cluster.read_client()
    again = f"`clusterctl up {cluster.spec_path or 'SPEC'}` starts it again"
    if not client.get("token"):
        raise Gone(f"cluster {cluster.name!r} has no way to its head yet: its `up` was interrupted; {again}")
    if cluster.head_is_remote:
        from clusterctl.client.head import tunnels

        def why() -> str:
            found = tunnels.trouble(cluster)
            return f"{found.rstrip('.')}; {tunnels.what_to_do(cluster)}" if found else ""

        port = tunnels.tunnel_port(cluster)
        return Endpoint("127.0.0.1", port, client["token"], why, lambda: tunnels.head_port(cluster))
    head = cluster.read_head()
    if head.get("port"):
        # The process first: `connect` would find a stranger out as well, but here it is known that the head is not running.
        if is_same(int(head.get("pid") or 0), head.get("start_ticks")):
            return Endpoint("127.0.0.1", int(head["port"]), client["token"])
        raise _absence(cluster)(
            f"the head of cluster {cluster.name!r} (process {head.get('pid')}) is not running; {again}"
        )
    url = urlsplit(client.get("url") or "")
    if cluster.config_file.exists() or not url.port:
        raise _absence(cluster)(f"the head of cluster {cluster.name!r} is not running; {again}")
    return Endpoint(url.hostname or "127.0.0.1", url.port, client["token"])


def _absence(cluster: Cluster) -> type[Unreachable]:
    """Unreachable for a moment while a supervisor starts the head again, else Gone."""
    try:
        supervisor = int((cluster.head_dir / "supervisor.pid").read_text())
    except (OSError, ValueError):
        return Gone
    return Unreachable if is_running(supervisor) else Gone


def connect(endpoint: Endpoint, name: str) -> http.client.HTTPConnection:
    """A connection to the head of cluster `name`, which has proven on it that it is that head. Raises Unreachable."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.auto_open = 0  # http.client would open another one by itself when this is cut, to anybody
    except OSError as error:
        raise Unreachable(
            f"nothing answers for cluster {name!r} at {endpoint.host}:{endpoint.port} ({why_text(error)}): "
            "is the head running? `clusterctl up SPEC` starts it again"
        ) from error
    try:
        _prove(connection, endpoint, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _prove(connection: http.client.HTTPConnection, endpoint: Endpoint, name: str) -> None:
    challenge = new_challenge()
    assert connection.sock is not None
    connection.sock.settimeout(ANSWER_SECONDS)
    try:
        connection.request("GET", f"/healthz?challenge={challenge}")
        with connection.getresponse() as response:
            body = response.read(_MOST)
            whole = response.isclosed() and not response.will_close
    except (OSError, http.client.HTTPException) as error:
        reason = endpoint.why()
        text = f"cannot be reached: {reason}" if reason else f"did not say who it is ({why_text(error)})"
        raise Unreachable(f"the head of cluster {name!r} {text}") from error
    port = endpoint.head_port() if endpoint.head_port else endpoint.port
    if not whole or not is_proof(_proof_in(body), endpoint.token, challenge, port):
        raise Unproven(
            f"what listens on {endpoint.host}:{endpoint.port} did not prove that it is the head of cluster {name!r}, so it got "
            "no token: another program may have that port, the head may be of another version of clusterctl, or its token "
            f"was changed by a `clusterctl list --adopt` elsewhere; `ss -ltnp 'sport = :{endpoint.port}'` names the program"
        )


def _proof_in(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("proof") or "") if isinstance(document, dict) else ""


def why_text(error: Exception) -> str:
    """What an error says of itself, at least its kind."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
