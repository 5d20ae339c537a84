"""What of a Kubernetes API server `exec` needs, with its own strictness: TLS, a bearer token, one pod, and the channels of v4
or v5 over websockets. Programs are processes of this machine, with a home of their own."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import os
import ssl
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
import yaml
from typing_extensions import Self
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

V4, V5 = Subprotocol("v4.channel.k8s.io"), Subprotocol("v5.channel.k8s.io")
TOKEN = "the-token"
RUNNING = {"status": {"phase": "Running", "containerStatuses": [{"name": "head", "state": {"running": {}}}]}}


class Endpoint:
    """Begins programs for whoever asks by a websocket. `speaks` are the protocols it takes, the best first."""

    def __init__(self, context: ssl.SSLContext, speaks: Sequence[Subprotocol]) -> None:
        self.speaks, self._context = list(speaks), context
        self.began: list[list[str]] = []
        self.taken: list[Subprotocol | None] = []
        self.programs: list[asyncio.subprocess.Process] = []
        self._lines: list[ServerConnection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())
        self.port = int(next(iter(self._server.sockets)).getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Every connection, as a network that went away."""
        for line in self._lines:
            self._loop.call_soon_threadsafe(line.transport.abort)

    # ------------------------------------------------------------ for what it is an endpoint of

    def answer(self, request: Request) -> Response | None:
        """Instead of beginning a program."""
        return None

    def program(self, path: str, query: dict[str, list[str]]) -> tuple[list[str], dict[str, str], str]:
        """What to run here, with which environment, and where."""
        raise NotImplementedError

    # ------------------------------------------------------------ inside

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _listen(self) -> Server:
        return await serve(
            self._exec, "127.0.0.1", 0, ssl=self._context, subprotocols=self.speaks, compression=None, max_size=None,
            process_request=lambda _, request: self.answer(request), select_subprotocol=self._select,
        )  # fmt: skip

    async def _close(self) -> None:
        self._server.close()
        for program in self.programs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, 9)
            await program.wait()
        await self._server.wait_closed()

    def _select(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """The client's first that is known here, as Kubernetes chooses."""
        return next((one for one in offered if one in self.speaks), None)

    async def _exec(self, line: ServerConnection) -> None:
        assert line.request is not None
        there = urlsplit(line.request.path)
        argv, environment, directory = self.program(there.path, parse_qs(there.query))
        self._lines.append(line)
        self.taken.append(line.subprotocol)
        program = await asyncio.create_subprocess_exec(
            *argv, stdin=-1, stdout=-1, stderr=-1, cwd=directory, start_new_session=True, env=environment
        )
        self.programs.append(program)
        self.began.append(argv)
        for channel in (0, 1, 2):
            await line.send(bytes([channel]))  # as kubelets begin each stream
        taking = asyncio.create_task(self._take(line, program))
        await asyncio.gather(self._carry(1, program.stdout, line), self._carry(2, program.stderr, line))
        code = await program.wait()
        taking.cancel()
        causes = [{"reason": "ExitCode", "message": str(code)}]
        bad = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        with contextlib.suppress(ConnectionClosed):
            await line.send(b"\x03" + json.dumps({"status": "Success"} if code == 0 else bad).encode())

    async def _carry(self, channel: int, pipe: Any, line: ServerConnection) -> None:
        while data := await pipe.read(1 << 15):
            with contextlib.suppress(ConnectionClosed):
                await line.send(bytes([channel]) + data)

    async def _take(self, line: ServerConnection, program: asyncio.subprocess.Process) -> None:
        assert program.stdin is not None
        with contextlib.suppress(ConnectionError):
            async for frame in line:
                assert isinstance(frame, bytes) and frame[0] in (0, 255), frame[:20]
                if frame[0] == 255:
                    assert line.subprotocol == V5 and frame == b"\xff\x00"
                    program.stdin.close()
                else:
                    program.stdin.write(frame[1:])
                    await program.stdin.drain()
        program.stdin.close()


class ExecServer(Endpoint):
    """An API server with pod `p` of namespace `ns`."""

    def __init__(self, directory: Path, speaks: Sequence[Subprotocol]) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.pod: dict[str, Any] = RUNNING
        self.refuse: tuple[int, str] | None = None
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        super().__init__(context, speaks)
        self.kubeconfig = directory / "kubeconfig"
        (directory / "ca.pem").write_bytes(authority.cert_pem.bytes())
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": "ca.pem"}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": TOKEN}}],
                }
            )
        )

    def answer(self, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        if self.refuse is not None:
            return _status(*self.refuse)
        path = urlsplit(request.path).path
        if path == "/api/v1/namespaces/ns/pods/p":
            return _json(200, self.pod)
        if path != "/api/v1/namespaces/ns/pods/p/exec":
            return _status(404, f'pods "{path.split("/")[6]}" not found')
        return None

    def program(self, path: str, query: dict[str, list[str]]) -> tuple[list[str], dict[str, str], str]:
        assert (query["container"], query["stdin"], query["stdout"]) == (["head"], ["true"], ["true"]), query
        return query["command"], {"PATH": os.environ["PATH"], "HOME": str(self.home)}, str(self.home)


def _status(code: int, message: str) -> Response:
    return _json(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})


def _json(code: int, document: Any) -> Response:
    body = json.dumps(document).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(code, http.HTTPStatus(code).phrase, headers, body)
