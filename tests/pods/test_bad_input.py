"""What users and the world give a cluster of pods that is wrong: told with what it is, never as a line that broke, and never as a
traceback."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from clusterctl_providers.base import CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.errors import typed
from clusterctl_providers.kubernetes.head import _with_head
from clusterctl_providers.kubernetes.kubeconfig import find_login
from clusterctl_providers.kubernetes.pod import manifest
from clusterctl_providers.kubernetes.provider import KubernetesProvider

from clusterctl.core.errors import AuthFailed, ProviderError, UnknownOutcome
from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources
from clusterctl.spec.faults import SpecError
from clusterctl.spec.load import parse_spec

# ---------------------------------------------------------------- kubeconfigs


def config(**more: Any) -> dict[str, Any]:
    told = {
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "prod", "namespace": "ml"}}],
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod.test:6443"}}],
        "users": [{"name": "prod", "user": {"token": "t"}}],
    }
    return {**told, **more}


def of_cluster(**more: Any) -> dict[str, Any]:
    return config(clusters=[{"name": "prod", "cluster": {"server": "https://prod.test:6443", **more}}])


def of_user(**user: Any) -> dict[str, Any]:
    return config(users=[{"name": "prod", "user": user}])


def of_plugin(**more: Any) -> dict[str, Any]:
    return of_user(exec={"command": "./plugin", **more})


def logged_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KUBECONFIG", str(path))
    login = find_login({})
    login.tls()
    return login.credentials.header()


@pytest.mark.parametrize(
    "text", [b"\x00\xff" * 9, b"{[}: x", b"[" * 9000, b"contexts: 5", b"contexts: {a: b}", b"users: [1]", b"- a"]
)
def test_a_file_that_is_no_kubeconfig_is_named(text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_bytes(text)
    with pytest.raises(ProviderError, match=str(tmp_path / "config")):
        logged_in(tmp_path / "config", monkeypatch)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (of_cluster(server="not an url"), "`server: not an url`, which is no URL"),
        (of_cluster(server="https://[::1"), "no URL"),
        (of_cluster(server="https://prod.test:99999"), "no URL"),
        (of_cluster(server=5), "no URL"),
        (of_cluster(**{"proxy-url": "nonsense://x"}), "`proxy-url: nonsense://x`"),
        (of_cluster(**{"certificate-authority-data": "!"}), "certificates of the Kubernetes context 'prod' cannot be used"),
        (of_user(exec="text"), "`exec` that cannot be run"),
        (of_plugin(args=5), "`exec` that cannot be run"),
        (of_plugin(env={"A": "b"}), "`exec` that cannot be run"),
        (of_plugin(env=["A=b"]), "`exec` that cannot be run"),
        (of_user(exec={"args": []}), "`exec` that cannot be run"),
        (of_plugin(args=["a\0b"]), "failed"),
        (of_user(token="two\nlines"), "is no token"),
        (of_user(token="caf\u00e9"), "is no token"),
        (of_user(tokenFile="/"), "cannot be read"),
    ],
)  # fmt: skip
def test_a_context_that_cannot_be_used_says_why(
    told: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").write_text("#!/bin/sh\n")
    (tmp_path / "plugin").chmod(0o700)
    (tmp_path / "config").write_text(yaml.safe_dump(told))
    with pytest.raises(ProviderError) as refused:
        logged_in(tmp_path / "config", monkeypatch)
    assert words in str(refused.value)
    assert "two" not in str(refused.value), "a token is not shown"


@pytest.mark.parametrize(
    "printed",
    [
        "hello", "[1]", "{}", '{"status": {}}', '{"status": []}', '{"status": {"token": ""}}',
        '{"status": {"token": "a\\nb"}}', '{"status": {"clientCertificateData": "c"}}',
    ],
)  # fmt: skip
def test_a_login_plugin_that_prints_nonsense_logs_nobody_in(
    printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "said").write_text(printed)
    (tmp_path / "plugin").write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    (tmp_path / "plugin").chmod(0o700)
    (tmp_path / "config").write_text(yaml.safe_dump(of_plugin()))
    with pytest.raises(AuthFailed, match="logging in to the Kubernetes context 'prod' by"):
        logged_in(tmp_path / "config", monkeypatch)


# ---------------------------------------------------------------- servers


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("certificate verify failed: unable to get local issuer certificate", AuthFailed, "this machine's clock"),
        ("sslv3 alert bad certificate", AuthFailed, "log in to that context anew"),
        ("EOF occurred in violation of protocol", UnknownOutcome, "the line broke"),
    ],
)
def test_tls_that_fails_for_good_is_no_line_that_broke(said: str, kind: type, words: str) -> None:
    error = typed(requests.exceptions.SSLError(ssl.SSLError(1, said)), "asking", "prod")
    assert type(error) is kind and words in str(error)
    assert "REQUESTS_CA_BUNDLE" not in str(error), "it has no say here"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], Client]]:
    """A client of a server that says nothing but this."""
    answer = [200, ""]

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(answer[1]).encode()
            self.send_response(int(answer[0]))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        told = of_cluster(server=f"http://127.0.0.1:{server.server_address[1]}")
        (tmp_path / "config").write_text(yaml.safe_dump(told))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        client = Client({}, pause=lambda seconds: None)

        def prepared(status: int, body: str) -> Client:
            answer[:] = status, body
            return client

        yield prepared
        client.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, "<html>log in</html>"), (200, "{}"), (200, "[1]"), (200, '{"items": "x"}'), (404, "<html>lost")],
)
def test_what_is_no_api_server_is_not_believed_that_nothing_is_there(
    status: int, body: str, said: Callable[[int, str], Client], tmp_path: Path
) -> None:
    said(status, body)
    provider = KubernetesProvider(ProviderContext("demo", "u", str(tmp_path / "state"), {"head_address": "10.0.0.5"}))
    provider._client._pause = lambda seconds: None
    try:
        (scope,) = provider.list()
        assert not scope.complete and "is no Kubernetes API server" in scope.error
        if status == 404:
            with pytest.raises(UnknownOutcome):
                provider.look_up(["p"])
            with pytest.raises(UnknownOutcome):
                provider.terminate(["p"])
    finally:
        provider.close()


def test_a_server_that_nobody_reaches_is_told_of_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(yaml.safe_dump(of_cluster(server="https://127.0.0.1:1")))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    provider = KubernetesProvider(ProviderContext("demo", "", "", {"context": "prod"}))
    provider._client._pause = lambda seconds: None
    (one,) = provider.review([])
    assert one.key == "context" and "API server of prod could not be reached" in one.text
    assert "HTTPSConnectionPool" not in one.text
    provider.close()


def test_a_404_of_an_api_server_is_believed(said: Callable[[int, str], Client], tmp_path: Path) -> None:
    said(404, json.dumps({"kind": "Status", "reason": "NotFound", "message": 'pods "p" not found'}))
    provider = KubernetesProvider(ProviderContext("demo", "u", str(tmp_path / "state"), {"head_address": "10.0.0.5"}))
    assert provider.look_up(["p"]) == {}
    provider.close()


# ---------------------------------------------------------------- pod:


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ("{specs: {}}", "`metadata` and `spec`"),
        ("{spec: []}", "`metadata` and `spec`"),
        ("{metadata: {name: mine}}", "metadata.name is clusterctl's to write"),
        ("{metadata: {ownerReferences: []}}", "metadata.ownerReferences is clusterctl's"),
        ("{metadata: {labels: [a]}}", "metadata.labels maps names to text"),
        ("{metadata: {labels: {a: 1}}}", "metadata.labels maps names to text"),
        ("{metadata: {labels: {clusterctl-uid: x}}}", "is clusterctl's own"),
        ("{metadata: {labels: {app.kubernetes.io/managed-by: me}}}", "is clusterctl's own"),
        ("{spec: {restartPolicy: Always}}", "spec.restartPolicy is clusterctl's to write"),
        ("{spec: {nodeName: n}}", "`node_selector`"),
        ("{spec: {containers: [{name: node, command: [x]}]}}", "runs clusterctl's agent"),
        ("{spec: {containers: [{name: node, args: [x]}]}}", "runs clusterctl's agent"),
        ("{spec: {priority: .nan}}", "spec.priority is nan"),
    ],
)
def test_a_pod_that_kubernetes_would_take_and_that_is_no_node_is_refused_at_its_place(pod: str, words: str) -> None:
    text = f"cluster: demo\nprovider:\n  kubernetes:\n    image: a\n    pod: {pod}\npools:\n  - {{name: cpu, max: 3}}\n"
    with pytest.raises(SpecError) as refused:
        parse_spec(text, "c.yaml")
    assert str(refused.value).startswith("c.yaml:5:10: ") and words in str(refused.value)


def test_no_pod_of_the_users_gives_jobs_what_is_the_heads() -> None:
    pod = {"spec": {"automountServiceAccountToken": True, "shareProcessNamespace": True, "serviceAccountName": "mine"}}
    context = ProviderContext("demo", "u", "", {"pod": pod})
    offer = Offer("head", "t", "on-demand", "", 0.0, Resources.of({"CPU": 1.0}))
    request = CreateRequest("token", "head-1", 1, offer, {}, {}, PoolRequest("head", {}, "head"))
    spec = _with_head(
        manifest(context, request, "p", [], "b", "i", {})["spec"], "i", "heads-account", "claim", "secret"
    )
    assert spec["serviceAccountName"] == "heads-account"
    assert (spec["automountServiceAccountToken"], spec["shareProcessNamespace"]) == (False, False)
    (node,) = (one for one in spec["containers"] if one["name"] == "node")
    assert "account" not in {mount["name"] for mount in node["volumeMounts"]}
