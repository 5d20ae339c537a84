"""A way to a machine through Google's Identity-Aware Proxy: what is read from stdin arrives at a port of the instance, and
what that says is written to stdout. It needs no gcloud, and its token is never in an argument.

    python -m clusterctl_providers.gcp.iap us-central1-a/NAME 22 --project=P

Google's relay is a websocket whose messages are frames: a tag of two bytes, then what it says, most significant byte first.
There is no page that describes it; gcloud itself is what it is known from. A relay that is asked for a session by its id goes
on with one that broke off; that is left out, since whoever uses this has a way to log in again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxyStatus, InvalidStatus
from websockets.typing import Origin, Subprotocol

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.gcp.login import access_token

HOST = "tunnel.cloudproxy.app"
PROTOCOL = Subprotocol("relay.tunnel.cloudproxy.app")
ORIGIN = Origin("bot:iap-tunneler")  # which no page in a browser could say
NETWORK = "35.235.240.0/20"  # from which it comes to a machine
PERMISSION = "iap.tunnelInstances.accessViaIAP"
CONNECTED, DATA, ACK = 0x0001, 0x0004, 0x0007
Read = Callable[[], Awaitable[bytes]]  # what comes next, at most LARGEST; b"" at the end
Write = Callable[[bytes], Awaitable[None]]
STDIN, STDOUT = 0, 1
LARGEST = 16384  # bytes in one frame
WINDOW = 2 * LARGEST  # received bytes that may be unconfirmed
CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 1.0  # that the other side's last word is waited for
PING_SECONDS = 30.0  # so that nothing on the way takes a quiet line for a dead one
# what the relay says when it ends a session
BACKEND, LOGIN, FORBIDDEN, UNKNOWN = 4003, 4004, 4033, 4047
BROKEN = 1006  # it said nothing


class Relay:
    """A line to `port` of an instance. `settings` are the provider's."""

    def __init__(self, settings: Mapping[str, Any], instance_id: str, port: int) -> None:
        self._settings, self._port = settings, port
        self._zone, _, self._name = instance_id.partition("/")
        self._received = self._confirmed = 0
        self._what = f"going to port {port} of {self._name} through Google's Identity-Aware Proxy"
        self._project = ""

    async def carry(self, read: Read, write: Write) -> None:
        """Until either side has ended it. Raises ProviderError."""
        token, self._project = await asyncio.to_thread(access_token, self._settings, self._what)
        try:
            line = await self._open(token)
        except InvalidHandshake as error:
            raise self._refused(error) from error
        except OSError as error:
            raise UnknownOutcome(
                f"{self._what}: {HOST} cannot be reached ({error}); check the network and HTTPS_PROXY"
            ) from error
        tasks = [asyncio.ensure_future(job) for job in (_send(read, line), self._receive(line, write))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ConnectionClosed as error:
            self._ended(error)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever read what we write has gone
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await line.close()

    async def _open(self, token: str) -> ClientConnection:
        endpoint = str(self._settings.get("endpoint_url") or "").rstrip("/")
        base = f"ws{endpoint.removeprefix('http')}/{HOST}" if endpoint else f"wss://{HOST}"
        query = urlencode({
            "project": self._project, "zone": self._zone, "instance": self._name, "interface": "nic0", "port": self._port,
            "newWebsocket": "True",
        })  # fmt: skip
        url = f"{base}/v4/connect?{query}"
        tls: dict[str, Any] = {} if endpoint else {"ssl": _trusting()}
        return await connect(
            url, origin=ORIGIN, subprotocols=[PROTOCOL], compression=None, user_agent_header="clusterctl",
            additional_headers={"Authorization": f"Bearer {token}"}, proxy=proxy_for(url), open_timeout=CONNECT_SECONDS,
            close_timeout=CLOSE_SECONDS, ping_interval=PING_SECONDS, ping_timeout=None, **tls,
        )  # fmt: skip

    async def _receive(self, line: ClientConnection, write: Write) -> None:
        connected = False
        while True:
            frame = await line.recv(decode=False)
            tag = int.from_bytes(frame[:2], "big")
            if tag == CONNECTED:
                connected = True
            elif tag == DATA and connected:
                (length,) = struct.unpack_from(">I", frame, 2)
                await write(frame[6 : 6 + length])
                await self._confirm(line, length)

    async def _confirm(self, line: ClientConnection, length: int) -> None:
        """The relay stops sending when too much is unconfirmed."""
        self._received += length
        if self._received - self._confirmed > WINDOW:
            self._confirmed = self._received
            await line.send(struct.pack(">HQ", ACK, self._received))

    # ------------------------------------------------------------ what went wrong

    def _refused(self, error: InvalidHandshake) -> ProviderError:
        status, said = 0, str(error).rstrip(".")
        if isinstance(error, InvalidProxyStatus):
            status, said = error.response.status_code, f"{said}; said the proxy of the environment"
        elif isinstance(error, InvalidStatus):
            status = error.response.status_code
            body = " ".join((error.response.body or b"").decode("utf-8", "replace").split())
            said = f"{status} {body}".strip()
        if status == 401:
            return AuthFailed(
                f"{self._what}: the relay does not accept the credentials ({said}); log in again "
                "(`gcloud auth application-default login`), then `clusterctl doctor`"
            )
        if status == 407:
            return UnknownOutcome(f"{self._what}: {said}; put its login into HTTPS_PROXY")
        if status == 403:
            return AuthFailed(f"{self._what}: refused ({said}); `clusterctl doctor` names what is missing")
        return UnknownOutcome(f"{self._what}: no line could be had ({said})")

    def _ended(self, error: ConnectionClosed) -> None:
        """Nothing to say where a line has simply ended."""
        code = error.rcvd.code if error.rcvd else BROKEN
        if code == FORBIDDEN:
            raise AuthFailed(
                f"{self._what}: not allowed ({error}): these credentials lack the permission {PERMISSION} in the project "
                f"{self._project}, or there is no such instance; the role `iap` of docs/gcp.md has it"
            )
        if code == LOGIN:
            raise AuthFailed(
                f"{self._what}: the organisation wants a new login ({error}): `gcloud auth application-default login`"
            )
        if code == UNKNOWN:
            raise BadRequest(
                f"{self._what}: the relay finds no such machine that runs in {self._zone} of {self._project} ({error}); one "
                "that was started just now is found within a minute"
            )
        if code == BACKEND:
            raise UnknownOutcome(
                f"{self._what}: nothing answers there ({error}): the machine boots, or no firewall rule of its network lets "
                f"{NETWORK} in"
            )
        if code not in (1000, 1001, 1005, 4000, 4010):
            said = f"the line has ended ({error})" if error.rcvd else "the line broke"
            raise UnknownOutcome(f"{self._what}: {said}")


async def _send(read: Read, line: ClientConnection) -> None:
    while data := await read():
        await line.send(struct.pack(">HI", DATA, len(data)) + data)


def proxy_for(url: str) -> str | None:
    """The proxy of the environment on the way to `url` (ws:// or wss://), None for none; as HTTP's clients take it, also without
    a scheme."""
    parts = urlsplit(url)
    proxy = getproxies().get("https" if parts.scheme == "wss" else "http", "")
    if not proxy or proxy_bypass(str(parts.hostname)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _trusting() -> ssl.SSLContext:
    """The authorities that `requests` trusts, so that all of a cloud's calls trust the same."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    given = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    if Path(given).is_dir():
        return ssl.create_default_context(capath=given)
    return ssl.create_default_context(cafile=given)


# ---------------------------------------------------------------- as a program


async def _read() -> bytes:
    """What comes next from stdin, b"" at its end. stdin and stdout may be one socket, which asyncio's own pipes take for a
    broken one; and neither is made non-blocking, which would hold for the other."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(STDIN, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(STDIN)
    return os.read(STDIN, LARGEST)


async def _write(data: bytes) -> None:
    await asyncio.to_thread(_write_all, memoryview(data))


def _write_all(data: memoryview) -> None:
    while data:
        data = data[os.write(STDOUT, data) :]


def main() -> None:
    """Ends with 1 and a sentence on stderr where there is no way."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.gcp.iap", description="A line to a port of an instance."
    )
    parser.add_argument("instance", help="ZONE/NAME")
    parser.add_argument("port", type=int)
    for name in ("project", "endpoint_url", "impersonate"):
        parser.add_argument(f"--{name}", default="")
    given = vars(parser.parse_args())
    try:
        asyncio.run(Relay(given, given["instance"], given["port"]).carry(_read, _write))
    except ProviderError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
