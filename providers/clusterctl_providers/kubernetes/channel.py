"""One program in a pod, through the API server's `exec`: frames of a websocket, whose first byte says what they are of.

    0 stdin    1 stdout    2 stderr    3 how it ended (a Status, once)    4 the size of its terminal
    255, from v5 on: what its next byte names has ended

Servers before 1.30 know only v4, in which stdin has no end. Backpressure is the connection's own: whoever does not read stdout
stops what writes there, and then stderr as well.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from clusterctl.core.errors import ProviderError
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.websocket import V5, dial, done, loop

STDIN, STDOUT, STDERR, STATUS, SIZE, END = 0, 1, 2, 3, 4, 255
PIECE = 1 << 16
MOST_UNREAD = 1 << 20  # bytes of stdout
OPEN_SECONDS = 60.0
PLACE = ("kubeconfig", "context", "namespace", "pod", "container")


class Pod:
    """A container of it; see `MachineLogin`."""

    def __init__(self, client: Client, name: str, container: str) -> None:
        self.client, self.name, self.container = client, name, container
        self.saved_exception: Exception | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._channels = weakref.WeakSet[Channel]()

    def is_active(self) -> bool:
        """Each program has a connection of its own, so nothing of a login can break."""
        return not self._closed

    def open_session(self, timeout: float | None = None) -> Channel:
        """`timeout`: seconds in which the API server has to have begun its program."""
        with self._lock:
            if self._closed:
                raise EOFError(f"the login to pod {self.name} was closed")
            channel = Channel(self, timeout)
            self._channels.add(channel)
        return channel

    def exec_path(self, argv: Sequence[str], *, tty: bool) -> str:
        """Where the API server begins `argv`, with its stdin and stdout, and with its stderr where that is not its terminal."""
        streams = {"stdin": True, "stdout": True, "stderr": not tty, "tty": tty}
        told = [("container", self.container), *((name, str(on).lower()) for name, on in streams.items())]
        query = urlencode([*told, *(("command", word) for word in argv)])
        return f"{self.client.path('pods', self.name, 'exec')}?{query}"

    def forget(self, channel: Channel) -> None:
        with self._lock:
            self._channels.discard(channel)

    def shell_argv(self, command: Sequence[str]) -> list[str]:
        """A program of ours, since kubectl need not be here."""
        place = place_of(self.client, self.name, self.container)
        given = [f"--{key}={value}" for key, value in place.items()]
        return [sys.executable, "-I", "-m", "clusterctl_providers.kubernetes.shell", *given, "--", *command]

    def close(self) -> None:
        """Ends what runs through it. Can be repeated."""
        with self._lock:
            self._closed, channels = True, list(self._channels)
        for channel in channels:
            channel.close()
        self.client.close()


class Channel:
    """A program in a pod; see `ProgramChannel`."""

    def __init__(self, pod: Pod, seconds: float | None) -> None:
        self._pod, self._open_seconds = pod, seconds or OPEN_SECONDS
        self._line: ClientConnection | None = None
        self._seconds: float | None = None
        self._news, self._room = threading.Condition(), asyncio.Event()
        self._streams = {STDOUT: bytearray(), STDERR: bytearray()}
        self._ended = False
        self._code = -1

    def exec_command(self, command: str) -> None:
        """Raises ProviderError where the API server or the node refuses, OSError where nobody answers."""
        self.begin(["sh", "-c", command])

    def begin(self, argv: Sequence[str], *, tty: bool = False) -> None:
        """The same without a shell, and with a terminal, which has stderr in stdout."""
        path, what = self._pod.exec_path(argv, tty=tty), f"beginning a program in pod {self._pod.name}"
        self._line = dial(self._pod.client, path, self._open_seconds, what)
        asyncio.run_coroutine_threadsafe(self._read(self._line), loop())

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    # ------------------------------------------------------------ what it says

    async def _read(self, line: ClientConnection) -> None:
        try:
            while not self._ended:
                frame = await line.recv()
                await self._take(frame.encode() if isinstance(frame, str) else frame)
        except ConnectionClosed as error:
            self._pod.saved_exception = error
        finally:
            self._end()
            await line.close()

    async def _take(self, frame: bytes) -> None:
        if frame[:1] == bytes([STATUS]):
            self._code, why = exit_code(frame[1:])
            self._pod.saved_exception = ProviderError(why) if why else None
            self._end()
            return
        stream = self._streams.get(frame[0]) if frame else None
        if stream is None or len(frame) == 1:
            return  # each stream begins with an empty one
        with self._news:
            stream += frame[1:]
            self._news.notify_all()
        while len(self._streams[STDOUT]) > MOST_UNREAD and not self._ended:
            self._room.clear()
            await self._room.wait()

    def _end(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def recv(self, size: int) -> bytes:
        data = self._next(STDOUT, size, self._seconds)
        if not self._room.is_set():
            loop().call_soon_threadsafe(self._room.set)
        return data

    def recv_stderr(self, size: int) -> bytes:
        return self._next(STDERR, size, None)

    def _next(self, kind: int, size: int, seconds: float | None) -> bytes:
        stream = self._streams[kind]
        with self._news:
            if not self._news.wait_for(lambda: stream or self._ended, seconds):
                raise TimeoutError(f"nothing came for {seconds:g} s")
            data = bytes(stream[:size])
            del stream[:size]
        return data

    def recv_exit_status(self) -> int:
        with self._news:
            self._news.wait_for(lambda: self._ended)
        return self._code

    # ------------------------------------------------------------ what it is told

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self._send(bytes([STDIN]) + view[start : start + PIECE])

    def shutdown_write(self) -> None:
        """v4 has no word for it."""
        if self._line is not None and self._line.subprotocol == V5:
            self._send(bytes([END, STDIN]))

    def resize(self, columns: int, lines: int) -> None:
        """Of its terminal."""
        self._send(bytes([SIZE]) + json.dumps({"Width": columns, "Height": lines}).encode())

    def _send(self, frame: bytes) -> None:
        if self._line is None:
            raise OSError("no program was begun")
        try:
            done(self._line.send(frame))
        except ConnectionClosed as error:
            raise BrokenPipeError(f"the program has ended, or the way to it: {error}") from error

    # ------------------------------------------------------------ the end

    def get_transport(self) -> Pod:
        return self._pod

    def close(self) -> None:
        """Its program sees the end of its stdin. Can be repeated; returns at once."""
        self._end()
        loop().call_soon_threadsafe(self._room.set)
        if self._line is not None:
            asyncio.run_coroutine_threadsafe(self._line.close(), loop())
        self._pod.forget(self)


def place_of(client: Client, name: str, container: str) -> dict[str, str]:
    """What `log_in` finds the container by, also where another context is the current one by then, or KUBECONFIG is not set."""
    return dict(zip(PLACE, (client.kubeconfig, client.context, client.namespace, name, container), strict=True))


def exit_code(status: bytes) -> tuple[int, str]:
    """Of a Status: the program's code; or -1, and why there was no program."""
    try:
        said: dict[str, Any] = json.loads(status)
    except ValueError:
        return -1, f"the node said how the program ended in a way that nobody knows: {status[:200]!r}"
    if said.get("status") == "Success":
        return 0, ""
    for cause in (said.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
            return int(cause["message"]), ""
    return -1, str(said.get("message") or said.get("reason") or "the node began no program, and did not say why")
