"""The way to a head through Google's Identity-Aware Proxy: a ProxyCommand of our own, whose token nobody sees."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from clusterctl_providers.base import NetworkPlace, Whereabouts
from clusterctl_providers.gcp import iap
from clusterctl_providers.gcp.iap import WINDOW, Relay
from websockets.sync.server import serve

from clusterctl.client.up.way_in import WayIn
from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl.provision.ssh.proxy import Proxy
from clusterctl.spec.providers import gcp as kind
from clusterctl.spec.providers.registry import KINDS
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT
from tests.support.cluster import wait_until

ID = "us-central1-a/clusterctl-demo-5f3a5f3a-head-1-1"
RULE = {
    "name": "ssh", "network": "global/networks/default", "direction": "INGRESS", "sourceRanges": [iap.NETWORK],
    "targetTags": ["head"], "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
}  # fmt: skip
INSTANCE = {"tags": {"items": ["head"]}, "networkInterfaces": [{"network": "global/networks/default"}]}


class Echo(socketserver.ThreadingTCPServer):
    """A machine's port: it says what it hears."""

    allow_reuse_address, daemon_threads = True, True

    class RequestHandlerClass(socketserver.BaseRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(65536):
                    self.request.sendall(data)


@pytest.fixture
def port() -> Iterator[int]:
    with Echo(("127.0.0.1", 0), Echo.RequestHandlerClass) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(30)


@pytest.fixture
def machine(cloud: GcpCloud, port: int) -> GcpCloud:
    """A cloud whose relay finds one instance, behind rules like a cluster's own."""
    open_port = {**RULE, "allowed": [{"IPProtocol": "tcp", "ports": [str(port)]}]}
    cloud.iap.machine = lambda zone, name: ("127.0.0.1", INSTANCE) if f"{zone}/{name}" == ID else None
    cloud.iap.rules = lambda: [open_port]
    return cloud


def settings(cloud: GcpCloud, **more: Any) -> dict[str, Any]:
    return {"project": PROJECT, "endpoint_url": cloud.url, "reach": "iap", **more}


def way(given: dict[str, Any]) -> WayIn:
    cloud = KINDS["gcp"].cloud
    assert cloud is not None
    return WayIn("gcp", "iap", cloud.reach["iap"], cloud.user, given)


def carry(given: dict[str, Any], port: int, data: bytes = b"hello", instance: str = ID) -> bytes:
    """Sends `data` and returns as many bytes of what comes back, or what comes until the line ends."""
    got, done = bytearray(), asyncio.Event()
    parts = [data[start : start + iap.LARGEST] for start in range(0, len(data), iap.LARGEST)]

    async def read() -> bytes:
        if parts:
            return parts.pop(0)
        await done.wait()
        return b""

    async def write(some: bytes) -> None:
        got.extend(some)
        if len(got) >= len(data):
            done.set()

    asyncio.run(asyncio.wait_for(Relay(given, instance, port).carry(read, write), 60))
    return bytes(got)


def told(given: dict[str, Any], port: int, kind: type[ProviderError], instance: str = ID) -> str:
    with pytest.raises(kind) as caught:
        carry(given, port, instance=instance)
    assert type(caught.value) is kind and instance.partition("/")[2] in str(caught.value)
    return str(caught.value)


def test_what_is_sent_arrives_and_comes_back_whole_and_is_confirmed_as_it_comes(machine: GcpCloud, port: int) -> None:
    data = secrets.token_bytes(40 * iap.LARGEST + 17)
    assert carry(settings(machine), port, data) == data
    (confirmed,) = machine.iap.acknowledged
    assert len(data) - WINDOW - iap.LARGEST <= confirmed <= len(data)


def test_as_a_program_it_is_a_proxy_command_for_ssh_whose_token_is_in_no_argument(machine: GcpCloud, port: int) -> None:
    """Both ends of it are one socket, as those of paramiko's and of OpenSSH's may be."""
    command = way(settings(machine)).command(ID, port)
    with contextlib.closing(Proxy(command)) as line:
        data = secrets.token_bytes(200_000)
        sender = threading.Thread(target=line.sendall, args=(data,), daemon=True)
        sender.start()
        line.settimeout(60)
        got = b""
        while len(got) < len(data):
            more = line.recv(65536)
            assert more, line.stderr_tail()
            got += more
        sender.join(60)
        argv = Path(f"/proc/{line._process.pid}/cmdline").read_text()
        assert got == data and "ya29" not in argv and "ya29" not in command
    wait_until(lambda: line._process.poll() is not None, what="the program ended with its line")


def test_a_program_that_finds_no_way_ends_with_a_sentence(machine: GcpCloud, port: int) -> None:
    machine.world.denied = {iap.PERMISSION}
    with contextlib.closing(Proxy(way(settings(machine)).command(ID, port))) as line:
        line.settimeout(60)
        assert line.recv(10) == b""
        said = line.stderr_tail()
    assert iap.PERMISSION in said and "Traceback" not in said


def test_the_way_in_names_the_machine_and_opens_port_22_to_the_relay_alone() -> None:
    ways = way({"project": "my project", "impersonate": "a@b"})
    assert ways.ssh_from == (kind.RELAY,) == (iap.NETWORK,)
    assert ways.host(ID, Whereabouts("", NetworkPlace("s", "10.0.0.9"))) == ID.partition("/")[2]
    assert ways.command(ID, 22).endswith(
        f"-m clusterctl_providers.gcp.iap {ID} 22 '--project=my project' --impersonate=a@b"
    )
    ways.check()


def test_without_the_permission_it_is_named(machine: GcpCloud, port: int) -> None:
    with machine.credentials(machine.add_account("who", "compute.instances.get")):
        assert iap.PERMISSION in told(settings(machine), port, AuthFailed)
    with machine.credentials(machine.add_account("other", iap.PERMISSION)):
        assert carry(settings(machine), port) == b"hello"


def test_it_acts_as_the_account_that_the_settings_say(machine: GcpCloud, port: int) -> None:
    machine.add_account("tunneler", iap.PERMISSION)
    email = f"tunneler@{PROJECT}.iam.gserviceaccount.com"
    with machine.credentials(machine.add_account("who", "compute.instances.get")):
        assert "iam.serviceAccounts.getAccessToken" in told(settings(machine, impersonate=email), port, AuthFailed)
        machine.rights.grant(f"who@{PROJECT}.iam.gserviceaccount.com", "roles/iam.serviceAccountTokenCreator")
        assert carry(settings(machine, impersonate=email), port) == b"hello"
    assert (email, iap.PERMISSION) in machine.world.called_by


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{**RULE, "sourceRanges": ["203.0.113.0/24"]}],
        [{**RULE, "targetTags": ["others"]}],
        [{**RULE, "disabled": True}],
        [RULE, {**RULE, "name": "shut", "priority": 900, "allowed": [], "denied": [{"IPProtocol": "all"}]}],
    ],
)
def test_a_firewall_that_does_not_let_the_relay_in_is_told(machine: GcpCloud, rules: list[dict[str, Any]]) -> None:
    machine.iap.rules = lambda: rules
    assert iap.NETWORK in told(settings(machine), 22, UnknownOutcome)


def test_a_machine_that_boots_is_not_there_yet(machine: GcpCloud, port: int) -> None:
    machine.iap.rules = lambda: [{**RULE, "allowed": [{"IPProtocol": "tcp"}]}]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    assert "the machine boots" in told(settings(machine), nobody, UnknownOutcome)


def test_an_instance_that_the_relay_does_not_know_is_told_with_its_place(machine: GcpCloud, port: int) -> None:
    said = told(settings(machine), port, BadRequest, "us-central1-a/gone")
    assert "us-central1-a" in said and PROJECT in said


def test_a_login_that_has_lapsed_is_told(machine: GcpCloud, port: int) -> None:
    machine.world.lapsed = True
    assert "gcloud auth application-default login" in told(settings(machine), port, AuthFailed)


def test_a_token_that_the_relay_does_not_take_is_told(
    machine: GcpCloud, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iap, "access_token", lambda given, what: ("ya29.forged", PROJECT))
    assert "log in again" in told(settings(machine), port, AuthFailed)


def test_a_line_that_breaks_is_an_error_and_one_that_ends_is_none(machine: GcpCloud, port: int) -> None:
    machine.iap.cut_after = 3 * iap.LARGEST
    with pytest.raises(UnknownOutcome, match="the line broke"):
        carry(settings(machine), port, secrets.token_bytes(10 * iap.LARGEST))
    assert carry(settings(machine), port) == b"hello"


def test_a_relay_that_is_not_there_is_told(cloud: GcpCloud) -> None:
    """Login goes to the stand-in, the relay to where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    given = {**settings(cloud), "endpoint_url": f"http://127.0.0.1:{nobody}"}
    assert "HTTPS_PROXY" in told(given, 22, UnknownOutcome)


# ---------------------------------------------------------------- what is on the way


def relaying(line: Any) -> None:
    """The relay's part: it is connected, and says what it hears."""
    line.send(struct.pack(">HI", iap.CONNECTED, 0))
    for message in line:
        line.send(message)


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iap, "access_token", lambda given, what: ("ya29.token", PROJECT))


def test_the_relay_is_believed_by_its_certificate_only(
    logged_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serve(relaying, "127.0.0.1", 0, ssl=context, subprotocols=[iap.PROTOCOL]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(iap, "HOST", f"localhost:{server.socket.getsockname()[1]}")
        assert "CERTIFICATE_VERIFY_FAILED" in told({}, 22, UnknownOutcome)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert carry({}, 22) == b"hello"
        server.shutdown()
        thread.join(30)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says the same to whoever comes first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(30)


def test_an_answer_that_is_no_websocket_is_told_with_its_words(logged_in: None) -> None:
    with answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot here!") as url:
        assert "403 not here!" in told({"endpoint_url": url}, 22, AuthFailed)
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as url:
        assert "no line could be had" in told({"endpoint_url": url}, 22, UnknownOutcome)


class ConnectProxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that wants a password; `asked` has what it was asked for."""

    allow_reuse_address, daemon_threads = True, True
    asked: list[str]

    class RequestHandlerClass(socketserver.StreamRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            head = [line for line in iter(self.rfile.readline, b"\r\n") if line]
            self.server.asked.append(head[0].decode().split()[1])
            if not any(line.lower().startswith(b"proxy-authorization: basic bwu6") for line in head):
                self.wfile.write(b"HTTP/1.1 407 Who are you?\r\n\r\n")
                return
            host, _, port = self.server.asked[-1].rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pour, args=(there, self.connection), daemon=True)
                back.start()
                _pour(self.connection, there)
                back.join(30)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    with ConnectProxy(("127.0.0.1", 0), ConnectProxy.RequestHandlerClass) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()
        thread.join(30)


def test_the_proxy_of_the_environment_is_gone_through(
    machine: GcpCloud, port: int, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iap.access_token(settings(machine), "logging in")
    monkeypatch.setattr(iap, "access_token", lambda given, what: found)
    place = f"127.0.0.1:{proxy.server_address[1]}"
    monkeypatch.setenv("http_proxy", f"http://me:secret@{place}")
    assert carry(settings(machine), port) == b"hello"
    assert proxy.asked == [machine.url.removeprefix("http://")]
    monkeypatch.setenv("http_proxy", place)  # without a scheme, as many have it
    assert "407" in (said := told(settings(machine), port, UnknownOutcome)) and "HTTPS_PROXY" in said


def test_what_the_environment_excepts_is_gone_to_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "localhost,.example.net")
    assert iap.proxy_for(f"wss://{iap.HOST}/v4/connect") == "http://proxy.example.com:3128"
    assert iap.proxy_for("wss://relay.example.net/v4/connect") is None
