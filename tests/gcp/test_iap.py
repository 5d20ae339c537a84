"""The way to a head through Google's Identity-Aware Proxy: a ProxyCommand of our own, whose token nobody sees."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from clusterctl_providers.base import NetworkPlace, Whereabouts
from clusterctl_providers.gcp import iap
from clusterctl_providers.gcp.iap import WINDOW, Relay
from clusterctl_providers.gcp.websocket import Closed, Refused, WebSocket
from websockets.sync.server import Server, serve

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


# ---------------------------------------------------------------- the websocket


@contextlib.contextmanager
def answering(handler: Any, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Another library's server."""
    server: Server
    with serve(handler, "127.0.0.1", 0, ssl=context, subprotocols=["p"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"{'wss' if context else 'ws'}://localhost:{server.socket.getsockname()[1]}/x?y=1"
        server.shutdown()
        thread.join(30)


def echo(line: Any) -> None:
    for message in line:
        line.send(message)


async def _ask(url: str, *messages: bytes) -> list[bytes]:
    line = await WebSocket.open(url, {"Origin": "o"}, "p")
    answers = []
    for message in messages:
        await line.ping()
        await line.send(message)
        answers.append(await line.receive())
    await line.close()
    return answers


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_messages_of_every_length_come_back(length: int) -> None:
    data = secrets.token_bytes(length)
    with answering(echo) as url:
        assert asyncio.run(_ask(url, data, data)) == [data, data]


def test_a_message_in_many_frames_with_a_ping_between_them_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(line: Any) -> None:
        line.recv()

        def parts() -> Iterator[bytes]:
            yield b"a"
            line.ping()
            yield b"b"
            yield b"c"

        line.send(parts())

    with answering(handler) as url:
        assert asyncio.run(_ask(url, b"go")) == [b"abc"]


def test_an_end_has_the_other_sides_code_and_words() -> None:
    with answering(lambda line: line.close(4033, "not authorized")) as url, pytest.raises(Closed) as caught:
        asyncio.run(_ask(url, b"x"))
    assert (caught.value.code, caught.value.reason) == (4033, "not authorized")


def test_a_server_is_believed_by_its_certificate_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with answering(echo, context) as url:
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(_ask(url, b"x"))
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert asyncio.run(_ask(url, b"x")) == [b"x"]


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


def test_the_proxy_of_the_environment_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(("127.0.0.1", 0), ConnectProxy.RequestHandlerClass) as proxy, answering(echo) as url:
        proxy.asked = []
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        place = f"127.0.0.1:{proxy.server_address[1]}"
        monkeypatch.setenv("http_proxy", f"http://me:secret@{place}")
        assert asyncio.run(_ask(url, b"x")) == [b"x"]
        assert proxy.asked == [url.split("/")[2]]
        monkeypatch.setenv("http_proxy", place)
        with pytest.raises(Refused, match="407"):
            asyncio.run(_ask(url, b"x"))
        proxy.shutdown()
        thread.join(30)


def test_an_answer_that_is_no_websocket_is_refused_with_its_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot here!"

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        with pytest.raises(Refused) as caught:
            asyncio.run(_ask(f"ws://127.0.0.1:{listener.getsockname()[1]}/", b"x"))
        thread.join(30)
    assert (caught.value.status, caught.value.text) == (403, "not here!")
