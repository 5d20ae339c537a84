"""Google's and Azure's notices, from stand-ins that answer as strictly as their metadata services do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.agent.notices import azure, gcp
from clusterctl_runtime.agent.notices.azure import AzureMetadata
from clusterctl_runtime.agent.notices.gcp import GcpMetadata
from clusterctl_runtime.agent.notices.script import Script
from clusterctl_runtime.agent.notices.watch import SOURCES, source_of

EVENTS, NAME = "/scheduledevents?api-version=2020-07-01", "/instance/compute/name?api-version=2021-02-01&format=text"
AT = 1769860800.0  # Sat, 31 Jan 2026 12:00:00 GMT


class Stand:
    """`texts` by path; whoever does not show the header, or comes by a proxy, is refused."""

    def __init__(self, header: tuple[str, str]) -> None:
        self.texts: dict[str, str] = {}
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.behind = 0.0  # seconds by which the cloud's clock is behind
        stand = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stand.posted.append((self.path, json.loads(body)))
                self.do_GET()

            def do_GET(self) -> None:
                allowed = self.headers.get(header[0]) == header[1] and "X-Forwarded-For" not in self.headers
                text = stand.texts.get(self.path)
                self.send_response_only(403 if not allowed else 404 if text is None else 200)
                self.send_header("Date", formatdate(time.time() - stand.behind, usegmt=True))
                self.end_headers()
                self.wfile.write((text or "").encode() if allowed else b"")

            def log_message(self, format: str, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def google() -> Iterator[Stand]:
    stand = Stand(("Metadata-Flavor", "Google"))
    stand.texts |= {"/preempted": "FALSE", "/maintenance-event": "NONE"}
    yield stand
    stand.close()


@pytest.fixture
def azures() -> Iterator[Stand]:
    stand = Stand(("Metadata", "true"))
    stand.texts |= {EVENTS: document(), NAME: "gpu-3"}
    yield stand
    stand.close()


@pytest.fixture(autouse=True)
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's proxy knows nothing of the machine's own metadata."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


def document(*events: dict[str, Any]) -> str:
    return json.dumps({"DocumentIncarnation": len(events), "Events": list(events)})


def event(kind: str, *names: str, at: float | None = AT, number: str = "E1") -> dict[str, Any]:
    before = "" if at is None else formatdate(at, usegmt=True)
    return {
        "EventId": number, "EventType": kind, "ResourceType": "VirtualMachine", "Resources": list(names),
        "EventStatus": "Started" if at is None else "Scheduled", "NotBefore": before,
    }  # fmt: skip


# ---------------------------------------------------------------- Google Cloud


def test_a_preempted_machine_has_half_a_minute_from_when_that_is_seen(google: Stand) -> None:
    metadata = GcpMetadata(google.url)
    assert metadata.notice() is None
    google.texts["/preempted"] = "TRUE"
    before = time.time()
    notice = metadata.notice()
    assert notice and notice[0] == "preempted" and gcp.PREEMPTED_SECONDS <= notice[1] - before < 60
    assert metadata.notice() == notice, "and it is one and the same notice"


def test_maintenance_that_ends_a_machine_is_a_notice_and_a_move_to_another_host_is_none(google: Stand) -> None:
    metadata = GcpMetadata(google.url)
    google.texts["/maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
    assert metadata.notice() is None
    google.texts["/maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    first = metadata.notice()
    assert first and first[0] == "maintenance" and metadata.notice() == first
    google.texts["/preempted"] = "TRUE"
    sooner = metadata.notice()
    assert sooner and sooner[0] == "preempted" and sooner[1] < first[1]
    google.texts |= {"/preempted": "FALSE", "/maintenance-event": "NONE"}
    assert metadata.notice() is None


def test_a_machine_without_announcements_of_maintenance_has_none(google: Stand) -> None:
    del google.texts["/maintenance-event"]
    assert GcpMetadata(google.url).notice() is None


# ---------------------------------------------------------------- Azure


@pytest.mark.parametrize(
    ("kind", "word"), [("Preempt", "preempted"), ("Terminate", "terminate"), ("Redeploy", "redeploy")]
)
def test_an_event_that_ends_this_machine_says_when(azures: Stand, kind: str, word: str) -> None:
    azures.texts[EVENTS] = document(event("Freeze", "gpu-3"), event(kind, "gpu-3", "gpu-4"))
    assert AzureMetadata(azures.url).notice() == (word, AT)


def test_events_of_other_machines_and_such_as_end_none_are_no_notices(azures: Stand) -> None:
    azures.texts[EVENTS] = document(event("Preempt", "gpu-4"), event("Freeze", "gpu-3"), event("Reboot", "gpu-3"))
    assert AzureMetadata(azures.url).notice() is None


def test_of_several_events_the_nearest_is_told(azures: Stand) -> None:
    azures.texts[EVENTS] = document(event("Redeploy", "gpu-3", at=AT + 900), event("Preempt", "gpu-3", number="E2"))
    assert AzureMetadata(azures.url).notice() == ("preempted", AT)


def test_an_event_is_confirmed_when_nothing_runs_any_more_and_not_for_other_machines(azures: Stand) -> None:
    """It is leave to begin before its time."""
    metadata = AzureMetadata(azures.url)
    metadata.confirm()
    azures.texts[EVENTS] = document(event("Redeploy", "gpu-3", "gpu-4"))
    assert metadata.notice() == ("redeploy", AT)
    metadata.confirm()
    azures.texts[EVENTS] = document(event("Preempt", "gpu-3", at=None, number="E2"))
    assert metadata.notice()
    metadata.confirm()
    assert azures.posted == [], "of others, or under way already"
    azures.texts[EVENTS] = document(
        event("Terminate", "gpu-3", at=AT + 900, number="E4"), event("Redeploy", "gpu-3", number="E3")
    )
    assert metadata.notice() == ("redeploy", AT) and azures.posted == []
    metadata.confirm()
    assert azures.posted == [(EVENTS, {"StartRequests": [{"EventId": "E3"}]})]


def test_an_event_that_has_begun_ends_the_machine_now(azures: Stand) -> None:
    metadata = AzureMetadata(azures.url)
    azures.texts[EVENTS] = document(event("Preempt", "gpu-3", at=None))
    notice = metadata.notice()
    assert notice and notice[0] == "preempted" and abs(notice[1] - time.time()) < 30
    assert metadata.notice() == notice


def test_a_machine_whose_clock_is_ahead_knows_how_much_time_azure_leaves(azures: Stand) -> None:
    azures.behind = 600.0
    azures.texts[EVENTS] = document(event("Preempt", "gpu-3", at=time.time() - 600 + 30))
    notice = AzureMetadata(azures.url).notice()
    assert notice and notice[1] - time.time() == pytest.approx(30, abs=10)


# ---------------------------------------------------------------- all of them


def test_a_request_without_the_clouds_header_is_answered_by_neither(
    google: Stand, azures: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what these stand-ins answer is worth something."""
    for module, metadata in ((gcp, GcpMetadata(google.url)), (azure, AzureMetadata(azures.url))):
        monkeypatch.setattr(module, "_ASK", {})
        with pytest.raises(OSError, match="403"):
            metadata.notice()


def test_the_bootstrap_document_chooses_the_service(tmp_path: Path) -> None:
    assert source_of("", tmp_path) is None, "processes and containers have none"
    assert isinstance(source_of("gcp", tmp_path), GcpMetadata) and isinstance(
        source_of("azure", tmp_path), AzureMetadata
    )
    script = source_of("script", tmp_path)
    assert isinstance(script, Script) and script.notice() is None
    (tmp_path / "metadata.json").write_text(json.dumps({"action": "terminate", "time": AT, "from": 0.0}))
    assert script.notice() == ("terminate", AT)
    for make in SOURCES.values():
        assert make(tmp_path).every > 0
