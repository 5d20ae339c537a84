"""Websockets to an API server. One thread of this process has them all, so that none waits with what comes for what goes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from clusterctl.core.errors import BadRequest, UnknownOutcome
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.errors import ApiError, typed

V5, V4 = Subprotocol("v5.channel.k8s.io"), Subprotocol("v4.channel.k8s.io")  # of `exec`, the better first
CLOSE_SECONDS = 2.0
PING_SECONDS = 20.0  # a way that nobody uses is kept open by whatever is between
SILENT_SECONDS = 60  # after which what was sent and not taken ends the connection
Answer = TypeVar("Answer")


@cache
def loop() -> asyncio.AbstractEventLoop:
    """Runs in a thread of its own for as long as this process does."""
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, name="pods", daemon=True).start()
    return made


def done(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What the work comes to, in that thread."""
    return asyncio.run_coroutine_threadsafe(work, loop()).result()


def dial(client: Client, path: str, seconds: float, what: str) -> ClientConnection:
    """A websocket to the API server that speaks one of the protocols of `exec`. Raises ProviderError for an answer, OSError for
    none. `what`: for sentences, as "beginning a program in pod a"."""
    try:
        try:
            return done(_dial(client, path, seconds))
        except InvalidStatus as error:
            if error.response.status_code != 401 or not client.login.credentials.refused():
                raise
        return done(_dial(client, path, seconds))  # with a login that is made anew
    except InvalidStatus as error:
        answer = error.response
        refusal = ApiError(answer.status_code, bytes(answer.body or b""), dict(answer.headers.raw_items()))
        raise typed(refusal, what, client.context) from error
    except (InvalidHandshake, InvalidURI) as error:
        server = client.login.server
        raise BadRequest(f"{what}: what answers at {server} has no websockets for it: {error}") from error
    except TimeoutError as error:
        raise UnknownOutcome(
            f"{what}: the API server of {client.context} did not answer within {seconds:g} s"
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise UnknownOutcome(f"{what}: the API server of {client.context} cannot be reached: {why}") from error


async def _dial(client: Client, path: str, seconds: float) -> ClientConnection:
    login = client.login
    header, secure = await asyncio.to_thread(login.credentials.header), login.server.startswith("https:")
    made = await connect(
        f"ws{login.server.removeprefix('http')}{path}",
        ssl=await asyncio.to_thread(client.tls) if secure else None,
        server_hostname=login.server_name or None,
        additional_headers={"Authorization": header} if header else None,
        subprotocols=[V5, V4],
        proxy=login.proxy or True,
        compression=None,
        max_size=None,
        open_timeout=seconds,
        close_timeout=CLOSE_SECONDS,
        ping_interval=PING_SECONDS,
        ping_timeout=None,  # a program that reads nothing for an hour keeps its node from answering
    )
    wanted = getattr(socket, "TCP_USER_TIMEOUT", None)
    if wanted is not None:
        with contextlib.suppress(OSError):
            made.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, wanted, SILENT_SECONDS * 1000)
    return made
