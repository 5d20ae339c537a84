"""HTTP/1.1 in, HTTP/1.1 out: each request has a connection to its target of its own, so that none is lost to one that was kept
open and is being closed. Bodies stream in both directions, with as much in memory as the buffers of two sockets hold.

What has been sent to a target is never sent again: another one is tried only where no connection came about.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import h11

from clusterctl_runtime.entry.checks import CONNECT_SECONDS, reason
from clusterctl_runtime.entry.router import Open, Service

log = logging.getLogger(__name__)

HEAD_BYTES = 64 * 1024  # of a request's line and headers; a token of some gateways takes many KiB
HEAD_SECONDS = 20.0  # for these to come, once they have begun to
IDLE_SECONDS = 75.0  # between two requests of one connection
PIECE = 64 * 1024
MOST_CONNECTIONS = 2048
FRESH_SECONDS = 2.0
LINGER_SECONDS, LINGER_BYTES = 1.0, 1024 * 1024
PREAMBLE = b"CLUSTERCTL "  # "CLUSTERCTL NAME TOKEN\n" before anything else: all of the connection is of that service, at its root
_PLACE = re.compile(rb"/services/([a-z0-9][a-z0-9-]{0,62})(/[^?#]*)?(\?.*)?")
_BEARER = re.compile(rb"bearer +([!-~]{1,2048})", re.IGNORECASE)
_OWN_HEADER = b"x-clusterctl-token"  # for programs that want `Authorization` for themselves
_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"proxy-authorization",
    )
)
_PHRASES = {
    401: b"Unauthorized",
    400: b"Bad Request",
    408: b"Request Timeout",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
}
Headers = list[tuple[bytes, bytes]]


class Gone(Exception):
    """The client has ended its connection."""


class Proxy:
    """Serves connections. `services`: by name; may change at any time."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services
        self._connections: set[asyncio.Task[Any]] = set()
        self.busy = 0  # connections on which a request is being answered
        self.fresh = 0  # and those whose first one is not here yet
        self.closing = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, to its end."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await _Conversation(self, self._services, reader, writer).run()
        except (Gone, ConnectionError, TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except Exception:
            log.exception("a connection failed")
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def drain(self, seconds: float) -> None:
        """No second request on any connection; returns when those that are being answered have been, or after `seconds`. Who has
        connected and said nothing yet is given a moment."""
        self.closing = True
        clock = asyncio.get_running_loop().time
        begun = clock()
        while clock() < begun + seconds and (self.busy or (self.fresh and clock() < begun + FRESH_SECONDS)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class _Conversation:
    """With one client."""

    def __init__(
        self,
        proxy: Proxy,
        services: Mapping[str, Service],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._services = proxy, services
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._method = b""
        self._whole: Service | None = None  # the service that all of this connection is of

    async def run(self) -> None:
        self._proxy.fresh += 1
        try:
            await self._preamble()
            request = await self._next()
        finally:
            self._proxy.fresh -= 1
        while request is not None:
            self._method = request.method
            self._proxy.busy += 1
            try:
                await self._answer(request)
            finally:
                self._proxy.busy -= 1
            if self._http.their_state in (h11.SEND_BODY, h11.ERROR):
                await self._hear_out()
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or self._proxy.closing:
                return
            self._http.start_next_cycle()
            request = await self._next()

    async def _next(self) -> h11.Request | None:
        """None where there is none. One that makes no sense is refused."""
        try:
            return await self._head()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, str(error))
            await self._hear_out()
            return None

    async def _preamble(self) -> None:
        data = b""
        while len(data) < len(PREAMBLE) and PREAMBLE.startswith(data):
            more = await asyncio.wait_for(self._reader.read(PIECE), IDLE_SECONDS)
            data += more
            if not more:
                break
        if data.startswith(PREAMBLE):
            if b"\n" not in data:
                data += await asyncio.wait_for(self._reader.readuntil(b"\n"), HEAD_SECONDS)
            line, _, data = data.partition(b"\n")
            _, name, token = line.decode("latin-1").split(" ", 2)
            service = self._services.get(name)
            if service is None or not service.is_let_in(token.strip()):
                raise Gone
            self._whole = service
        self._http.receive_data(data) if data else None

    # ------------------------------------------------------------ reading

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(PIECE))

    async def _head(self) -> h11.Request | None:
        """The next request; None where the client has ended."""
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            if not self._http.trailing_data[0]:
                data = await asyncio.wait_for(self._reader.read(PIECE), IDLE_SECONDS)
                self._http.receive_data(data)
            event = await asyncio.wait_for(self._event(), HEAD_SECONDS)
        return event if isinstance(event, h11.Request) else None

    # ------------------------------------------------------------ answering

    async def _answer(self, request: h11.Request) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))
        service, path, headers = self._placed(request)
        if service is None:
            await self._refuse(401, "this needs the service's token in the header `Authorization: Bearer TOKEN`")
            return
        tried: list[str] = []
        why = "no replica of it is well at this moment"
        while (target := await service.take(tried)) is not None:
            try:
                way = await self._dial(target)
                if way is not None:
                    await _Exchange(self, self._http, target, way).run(request, path, headers)
                    return
                tried.append(target.target.id)
                why = f"none of its replicas takes connections: {target.why}"
            finally:
                service.give_back(target)
        await self._refuse(503, why)

    async def _dial(self, target: Open) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        to = target.target
        try:
            return await asyncio.wait_for(asyncio.open_connection(to.host, to.port), CONNECT_SECONDS)
        except asyncio.TimeoutError:
            target.refused(f"no connection to {to.host}:{to.port} (no answer)")
        except OSError as error:
            target.refused(f"no connection to {to.host}:{to.port} ({reason(error)})")
        return None

    def _placed(self, request: h11.Request) -> tuple[Service | None, bytes, Headers]:
        """The service, the path there, and the headers without what was for us; no service where the caller may not."""
        named = {
            word.strip().lower()
            for name, value in request.headers
            if name == b"connection"
            for word in value.split(b",")
        }
        dropped = (named - {b"upgrade"}) | _HOP - {b"upgrade"}
        headers = [(n, v) for n, v in request.headers if n not in dropped and not n.startswith(b"x-forwarded-")]
        if self._whole is not None:
            return self._whole, request.target, headers
        found = _PLACE.fullmatch(request.target)
        service = self._services.get(found[1].decode()) if found else None
        token, used = _token(headers)
        if service is None or found is None or not service.is_let_in(token):
            return None, b"", []
        headers = [(name, value) for name, value in headers if name != used]
        headers.append((b"x-forwarded-prefix", b"/services/" + found[1]))
        return service, (found[2] or b"/") + (found[3] or b""), headers

    async def _refuse(self, status: int, message: str) -> None:
        """In JSON, as the head's API does; the connection ends with it, since the request's body is not read."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise Gone
        body = json.dumps({"error": {"code": str(status), "message": message}}).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 503:
            headers.append((b"retry-after", b"1"))
        self._send(h11.Response(status_code=status, headers=headers, reason=_PHRASES.get(status, b"")))
        if self._method != b"HEAD":
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    async def _hear_out(self) -> None:
        """Whoever is still sending would have its connection reset, and might never see its answer."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hear_some(), LINGER_SECONDS)

    async def _hear_some(self) -> None:
        heard = 0
        while heard < LINGER_BYTES and (data := await self._reader.read(PIECE)):
            heard += len(data)

    def _send(self, event: Any) -> None:
        if data := self._http.send(event):
            self._writer.write(data)

    # ------------------------------------------------------------ for an exchange

    async def give(self, event: Any) -> None:
        """To the client, at its pace."""
        self._send(event)
        await self._writer.drain()

    async def body_event(self) -> Any:
        """The next piece of the request's body, or its end."""
        return await self._event()

    async def until_gone(self) -> None:
        """After the body: returns when the client has ended its connection. What it sends meanwhile is its next request."""
        held = 0
        while held < PIECE:
            data = await self._reader.read(PIECE)
            if not data:
                return
            held += len(data)
            self._http.receive_data(data)
        await asyncio.get_running_loop().create_future()  # it sends ahead too much: nobody listens to it now

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._reader, self._writer

    def forwarded(self) -> Headers:
        """Who asks, for the program behind."""
        peer = self._writer.get_extra_info("peername")
        secure = self._writer.get_extra_info("ssl_object") is not None
        return [
            (b"x-forwarded-for", str(peer[0] if peer else "").encode()),
            (b"x-forwarded-proto", b"https" if secure else b"http"),
        ]


class _Exchange:
    """One request at one target, over a connection that has come about."""

    def __init__(
        self,
        client: _Conversation,
        client_http: h11.Connection,
        target: Open,
        way: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._client, self._client_http = client, client_http
        self._target = target
        self._reader, self._writer = way
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    async def run(self, request: h11.Request, path: bytes, headers: Headers) -> None:
        """Raises Gone where the client has left, or must not take what it got for the whole answer."""
        upgrade = next((value for name, value in headers if name == b"upgrade"), b"")
        sending = asyncio.ensure_future(self._send_request(request, path, headers, upgrade))
        answering = asyncio.ensure_future(self._pass_answer())
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                fault = sending.exception()
                raise fault if isinstance(fault, h11.LocalProtocolError) else Gone()
            if await answering:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await self._splice()
        except h11.LocalProtocolError as error:
            await self._client._refuse(400, str(error))
        except (h11.RemoteProtocolError, OSError, EOFError) as error:
            await self._broken(error)
        finally:
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)
            self._writer.transport.abort()

    async def _broken(self, error: Exception) -> None:
        """The target has, or its answer is no HTTP."""
        if self._client_http.our_state is not h11.SEND_RESPONSE:
            raise Gone from error
        what = str(error) or "it ended its connection"
        await self._client._refuse(502, f"the replica {self._target.target.id} did not answer: {what}")

    async def _send_request(self, request: h11.Request, path: bytes, headers: Headers, upgrade: bytes) -> None:
        """Returns when the client has left; what the target does not want any more is read all the same."""
        sent = [(name, value) for name, value in headers if name != b"upgrade"]
        if all(name != b"host" for name, _ in sent):  # HTTP/1.0 has none
            sent.append((b"host", f"{self._target.target.host}:{self._target.target.port}".encode()))
        sent += self._client.forwarded()
        sent += [(b"connection", b"Upgrade"), (b"upgrade", upgrade)] if upgrade else [(b"connection", b"close")]
        wanted = h11.Request(method=request.method, target=self._target.target.prefix.encode() + path, headers=sent)
        await self._give(wanted)
        while True:
            event = await self._client.body_event()
            if isinstance(event, h11.Data):
                await self._give(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._give(h11.EndOfMessage(headers=event.headers))
                break
            else:
                return
        await self._client.until_gone()

    async def _give(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            with contextlib.suppress(ConnectionError):  # it may have answered all the same
                self._writer.write(data)
                await self._writer.drain()

    async def _pass_answer(self) -> bool:
        """Whether the connection speaks something else from now on."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(PIECE))
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    await self._client.give(h11.InformationalResponse(status_code=101, headers=list(event.headers)))
                    return True
            elif isinstance(event, h11.Response):
                kept = [(name, value) for name, value in event.headers if name not in _HOP]
                await self._client.give(h11.Response(status_code=event.status_code, headers=kept, reason=event.reason))
            elif isinstance(event, h11.Data):
                await self._client.give(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._client.give(h11.EndOfMessage(headers=event.headers))
                return False
            else:
                raise EOFError("it ended its connection before its answer")

    async def _splice(self) -> None:
        """Bytes as they are, until both sides have ended."""
        reader, writer = self._client.streams
        ahead, back = self._client_http.trailing_data[0], self._http.trailing_data[0]
        await asyncio.gather(
            _pump(reader, self._writer, ahead), _pump(self._reader, writer, back), return_exceptions=True
        )


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, first: bytes) -> None:
    try:
        data = first or await source.read(PIECE)
        while data:
            sink.write(data)
            await sink.drain()
            data = await source.read(PIECE)
    finally:
        sink.close()  # these protocols know no half of a connection


def _token(headers: Headers) -> tuple[str, bytes]:
    """What the caller shows, and in which header."""
    for name, value in headers:
        if name == _OWN_HEADER:
            return value.decode("latin-1"), name
    given = [value for name, value in headers if name == b"authorization"]
    found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    return (found[1].decode("latin-1"), b"authorization") if found else ("", b"authorization")
