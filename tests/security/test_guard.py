"""The guard over real HTTP: what a foreign page, a rebound name or a caller without a token gets to see (nothing)."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import uvicorn
import websockets
from clusterctl_runtime.dashboard import mount
from clusterctl_runtime.head.api.guard import Guard
from clusterctl_runtime.head.api.tickets import SESSION_SECONDS, TICKET_SECONDS, Tickets
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import JSONResponse

GOOD = "a-good-token"
HTTP_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
METHODS = [*HTTP_METHODS, "WS"]
CANARY = "canary: only for those who may"
PATH = "/api/v1/anything"


def _app() -> FastAPI:
    """An application that answers everything, and is careless: it even sets a CORS header and its own policy."""
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.api_route("/api/v1/anything", methods=HTTP_METHODS)
    async def anything(request: Request) -> JSONResponse:
        careless = {"Access-Control-Allow-Origin": "*", "Content-Security-Policy": "default-src *"}
        return JSONResponse({"said": CANARY, "principal": request.state.principal}, headers=careless)

    @app.post("/api/v1/session")
    async def session() -> JSONResponse:
        return JSONResponse({"token": "t"})

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"ok": True})

    @app.websocket("/api/v1/anything")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(CANARY)
        await websocket.close()

    mount(app)
    return app


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with _serving() as port:
        yield port


@contextmanager
def _serving() -> Iterator[int]:
    """The careless application behind the guard, on a free loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    guard = Guard(_app(), lambda token: "me" if token == GOOD else None)
    server = uvicorn.Server(uvicorn.Config(guard, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=120)
    listener.close()


def _call(port: int, method: str, headers: dict[str, str], path: str = PATH) -> Answer:
    headers = {"Host": f"127.0.0.1:{port}", **headers}
    if method == "WS":
        return asyncio.run(_handshake(port, headers, path))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read().decode())
    finally:
        connection.close()


async def _handshake(port: int, headers: dict[str, str], path: str) -> Answer:
    """What a websocket client gets: 101 and the first message, or the HTTP answer that refused it."""
    host = headers.pop("Host")
    uri = f"ws://{host}{path}"
    try:
        async with websockets.connect(
            uri, host="127.0.0.1", port=port, additional_headers=headers, proxy=None, open_timeout=120
        ) as connection:
            return Answer(101, [], str(await connection.recv()))
    except websockets.exceptions.InvalidStatus as refused:
        response = refused.response
        return Answer(response.status_code, list(response.headers.raw_items()), (response.body or b"").decode())


def _bearer(token: str = GOOD) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _assert_refused(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert CANARY not in answer.body
    error = json.loads(answer.body)["error"]
    assert error["code"] and error["message"].endswith(".") and error["fix"]


EVIL_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "127.0.0.1:{port}.evil.example",
    "localhost.evil.example",
    "notlocalhost:{port}",
    "0.0.0.0:{port}",
    "127.0.0.2:{port}",
    "2130706433:{port}",
    "user@127.0.0.1:{port}",
    "",
]
EVIL_ORIGINS = [
    "https://evil.example",
    "http://evil.example:{port}",
    "null",
    "",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}/",
    "file://",
    "chrome-extension://abc",
]


@pytest.mark.parametrize("method", METHODS)
def test_a_foreign_host_name_is_refused_even_with_a_good_token(port: int, method: str) -> None:
    hosts = EVIL_HOSTS if method != "WS" else ["evil.example", "127.0.0.1.evil.example:81", "0.0.0.0"]
    for host in hosts:
        _assert_refused(_call(port, method, {"Host": host.format(port=port), **_bearer()}), 403)


@pytest.mark.parametrize("method", METHODS)
def test_a_foreign_origin_is_refused_even_with_a_good_token(port: int, method: str) -> None:
    for origin in EVIL_ORIGINS:
        _assert_refused(_call(port, method, {"Origin": origin.format(port=port), **_bearer()}), 403)


@pytest.mark.parametrize("method", METHODS)
def test_no_token_and_a_wrong_token_are_refused(port: int, method: str) -> None:
    expected = 403 if method == "OPTIONS" else 401
    _assert_refused(_call(port, method, {}), expected)
    for value in (GOOD, f"Basic {GOOD}", "Bearer", "Bearer ", f"Bearer x{GOOD}", f"Bearer {GOOD} {GOOD}", "Bearer é"):
        _assert_refused(_call(port, method, {"Authorization": value.encode().decode("latin-1")}), expected)


@pytest.mark.parametrize("method", METHODS)
def test_without_an_origin_a_good_token_passes_except_for_options(port: int, method: str) -> None:
    answer = _call(port, method, _bearer())
    if method == "OPTIONS":
        _assert_refused(answer, 403)
    else:
        assert answer.status == (101 if method == "WS" else 200)
        assert CANARY in answer.body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "WS"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LocalHost"])
def test_our_own_page_passes_under_every_loopback_name(port: int, method: str, name: str) -> None:
    host = f"{name}:{port}"
    answer = _call(port, method, {"Host": host, "Origin": f"http://{host.lower()}", **_bearer()})
    assert answer.status == (101 if method == "WS" else 200)


def test_the_principal_reaches_the_application(port: int) -> None:
    assert json.loads(_call(port, "GET", _bearer()).body)["principal"] == "me"


@pytest.mark.parametrize("path", [PATH, "/", "/healthz", "/static/main.js", "/api/v1/session", "/nothing"])
def test_a_foreign_page_gets_nothing_and_no_answer_opens_itself_to_other_origins(port: int, path: str) -> None:
    preflight = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    for method in HTTP_METHODS:
        for extra in ({}, _bearer(), {"Origin": "https://evil.example", **preflight}, {"Sec-Fetch-Site": "cross-site"}):
            answer = _call(port, method, extra, path)
            assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]
            if "Origin" in extra or "Sec-Fetch-Site" in extra:
                _assert_refused(answer, 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "strange"])
def test_what_another_site_started_is_refused_and_what_the_person_typed_is_not(port: int, site: str) -> None:
    _assert_refused(_call(port, "GET", {"Sec-Fetch-Site": site, **_bearer()}), 403)
    for own in ("none", "same-origin"):
        assert _call(port, "GET", {"Sec-Fetch-Site": own, **_bearer()}).status == 200


def test_a_header_given_twice_is_refused(port: int) -> None:
    for lines in (
        [f"Host: 127.0.0.1:{port}", "Host: evil.example"],
        [f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}", "Origin: https://evil.example"],
        [],
    ):
        request = "\r\n".join([f"GET {PATH} HTTP/1.1", *lines, f"Authorization: Bearer {GOOD}", "Connection: close"])
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            connection.sendall(request.encode() + b"\r\n\r\n")
            reply = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        assert reply.split(" ", 2)[1] in ("400", "403")
        assert CANARY not in reply


def test_every_answer_carries_the_security_headers_and_the_api_is_never_cached(port: int) -> None:
    calls = [("GET", PATH, _bearer()), ("GET", PATH, {}), ("GET", "/", {}), ("GET", "/nothing", _bearer())]
    calls += [("GET", "/static/main.js", {}), ("OPTIONS", PATH, {}), ("GET", PATH, {"Host": "evil.example"})]
    for method, path, headers in calls:
        answer = _call(port, method, headers, path)
        [policy] = answer.header("content-security-policy")
        assert "unsafe" not in policy and "*" not in policy
        for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        assert answer.header("x-content-type-options") == ["nosniff"]
        assert answer.header("referrer-policy") == ["no-referrer"]
        assert not answer.header("set-cookie")
        if path.startswith("/api"):
            assert answer.header("cache-control") == ["no-store"]


def test_only_the_page_the_health_check_and_the_ticket_exchange_pass_without_a_token(port: int) -> None:
    public = {("GET", "/"), ("GET", "/healthz"), ("GET", "/static/main.js"), ("POST", "/api/v1/session")}
    for method, path in sorted(public):
        assert _call(port, method, {}, path).status == 200
    for path in ("/", "/healthz", "/static/main.js", "/api/v1/session", "/openapi.json", "/metrics", "/api/v1/status"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if (method, path) not in public:
                _assert_refused(_call(port, method, {}, path), 401)


TRAVERSALS = [
    "/static/../main.js",
    "/static/../../head/guard.py",
    "/static/%2e%2e/%2e%2e/head/guard.py",
    "/static/..%2f..%2fhead%2fguard.py",
    "/static/..%5c..%5chead%5cguard.py",
    "/static/%2fetc%2fpasswd",
    "/static//etc/passwd",
    "/static/main.js%00.txt",
    "/static/%c0%ae%c0%ae/guard.py",
    "/static/....//....//guard.py",
    "/static/../api/v1/anything",
    "/static/%2e%2e/api/v1/anything",
    "/static/./../api/v1/anything",
    "/healthz/../api/v1/anything",
    "/static/__init__.py",
    "/static/../__init__.py",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_the_static_files_lead_nowhere_else(port: int, path: str) -> None:
    for headers in ({}, _bearer()):
        answer = _call(port, "GET", headers, path)
        assert answer.status in (400, 401, 404)
        assert "import" not in answer.body and "root:" not in answer.body and CANARY not in answer.body


def test_a_symbolic_link_among_the_static_files_is_not_followed_outside(tmp_path, monkeypatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(CANARY)
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("page")
    (static / "link.txt").symlink_to(secret)
    monkeypatch.setattr("clusterctl_runtime.dashboard.static_dir", lambda: static)
    with _serving() as port:
        assert _call(port, "GET", {}, "/static/index.html").status == 200
        answer = _call(port, "GET", {}, "/static/link.txt")
    assert answer.status == 404 and CANARY not in answer.body


def test_a_ticket_works_once_and_only_for_a_minute() -> None:
    tickets = Tickets()
    ticket = tickets.issue(role="admin", user="ada", now=1000.0)
    session = tickets.exchange(ticket.text, now=1001.0)
    assert session is not None and (session.role, session.user) == ("admin", "ada")
    assert tickets.exchange(ticket.text, now=1001.0) is None

    late = tickets.issue(role="admin", user="ada", now=1000.0)
    assert tickets.exchange(late.text, now=1000.0 + TICKET_SECONDS) is None
    assert tickets.exchange("", now=1000.0) is None
    assert tickets.exchange("\ud800", now=1000.0) is None


def test_a_session_token_ends_after_twelve_hours_and_cannot_be_changed() -> None:
    tickets = Tickets()
    session = tickets.exchange(tickets.issue(role="viewer", user="bob", now=1000.0).text, now=1000.0)
    assert session is not None
    known = tickets.session(session.token, now=1000.0 + SESSION_SECONDS - 1)
    assert known is not None and (known.role, known.user, known.expires) == ("viewer", "bob", session.expires)
    assert tickets.session(session.token, now=1001.0 + SESSION_SECONDS) is None
    for position in range(0, len(session.token), 7):
        swapped = "A" if session.token[position] != "A" else "B"
        changed = session.token[:position] + swapped + session.token[position + 1 :]
        found = tickets.session(changed, now=1000.0)
        assert found is None or (found.role, found.user) == ("viewer", "bob")
    assert tickets.session("", now=1000.0) is None
    assert tickets.session(GOOD, now=1000.0) is None


def test_a_session_outlives_a_restart_with_the_same_secret_and_ends_with_another() -> None:
    before = Tickets(b"the secret of this head")
    session = before.exchange(before.issue(role="admin", user="ada", now=5.0).text, now=5.0)
    assert session is not None
    assert Tickets(b"the secret of this head").session(session.token, now=6.0) is not None
    assert Tickets(b"another secret of it all").session(session.token, now=6.0) is None
    assert Tickets().session(session.token, now=6.0) is None


def test_unused_tickets_do_not_pile_up_and_are_not_kept_in_the_clear() -> None:
    tickets = Tickets()
    first = tickets.issue(role="admin", user="ada", now=1.0)
    made = [tickets.issue(role="admin", user="ada", now=1.0) for _ in range(1000)]
    assert tickets.exchange(first.text, now=1.0) is None
    assert tickets.exchange(made[-1].text, now=1.0) is not None
    kept = repr(vars(tickets))
    assert not [ticket for ticket in made if ticket.text in kept]
