"""Every call to a Kubernetes API server goes through here: plain REST on plain JSON, one shared bucket of calls, typed errors.

Objects are dictionaries, as they were written and as the server answers: a library's own types would drop the keys that it
does not know, before the server can refuse them (docs/adr/0935).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from clusterctl.core.errors import AuthFailed, ProviderError, UnknownOutcome
from clusterctl_providers.cloud.bucket import shared_bucket
from clusterctl_providers.cloud.calls import call_once, read
from clusterctl_providers.kubernetes.errors import ApiError, Missing, no_server, typed
from clusterctl_providers.kubernetes.kubeconfig import Login, find_login, kubeconfig, load_pair

CALLS_PER_SECOND = 100.0  # an API server serves many more, and says 429 where it does not want more
TIMEOUT = (5.0, 30.0)  # seconds: to connect, and for each part of an answer
CONNECTIONS = 32  # at the same time
PAGE = 500  # objects
MERGE = "application/merge-patch+json"
NAMES_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
Json = dict[str, Any]


class Client:
    """Thread-safe. Whatever fails is a ProviderError with the server's own answer behind it. Nothing is read or connected to
    before the first call."""

    def __init__(self, settings: Mapping[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
        self._settings, self._pause = dict(settings), pause
        self._lock = threading.RLock()
        self._session: requests.Session | None = None

    @cached_property
    def login(self) -> Login:
        """Raises BadRequest, AuthFailed."""
        return find_login(self._settings)

    @property
    def kubeconfig(self) -> str:
        """What KUBECONFIG is, or was when the cluster was made; "" for the usual file."""
        return kubeconfig() or str(self._settings.get("kubeconfig") or "")

    @property
    def namespace(self) -> str:
        return self.login.namespace

    @property
    def context(self) -> str:
        return self.login.context

    def path(self, plural: str, name: str = "", sub: str = "", *, group: str = "", namespace: str | None = None) -> str:
        """Of a collection or an object of our namespace, or of another one; "" for what is in none. `group` with its version, as
        in "rbac.authorization.k8s.io/v1"; "" is the core's."""
        where = self.namespace if namespace is None else namespace
        parts = ["apis", group] if group else ["api", "v1"]
        parts += ["namespaces", quote(where)] if where else []
        return "/" + "/".join([*parts, plural, *([quote(name)] if name else []), *([sub] if sub else [])])

    # ------------------------------------------------------------ what changes nothing

    def get(self, path: str, what: str, **query: Any) -> Json:
        """Repeated a few times when the server is busy or the line breaks. Raises Missing."""
        return read(lambda: self.call("GET", path, what, query=query), self._pause)

    def metadata(self, path: str, what: str) -> Json:
        """An object without what is in it, which may be large. Raises Missing."""
        return read(lambda: dict(self._send("GET", path, what, None, {}, accept=NAMES_ONLY).json()), self._pause)

    def ask(self, path: str, what: str, body: Json) -> Json:
        """A question that is posted, such as a SelfSubjectAccessReview."""
        return read(lambda: self.call("POST", path, what, body), self._pause)

    def pages(self, path: str, what: str, **query: Any) -> Iterator[list[Json]]:
        """The objects of a list, page by page, all as of one moment: that of the first. Raises Expired in the middle where the
        server does not know that moment any more, and ProviderError for a page that is not to be had."""
        query = {**query, "limit": PAGE}
        while True:
            found = self.get(path, what, **query)
            items = found.get("items")
            if not (isinstance(items, list) or (items is None and str(found.get("kind")).endswith("List"))):
                raise UnknownOutcome(no_server(what, self.context, "its list has no items"))
            yield list(items or ())
            following = (found.get("metadata") or {}).get("continue")
            if not following:
                return
            query["continue"] = following

    def text(self, path: str, what: str, **query: Any) -> str:
        """An answer that is no JSON, such as a pod's log."""
        return read(lambda: self._send("GET", path, what, None, query).text, self._pause)

    # ------------------------------------------------------------ what changes something

    def create(self, path: str, what: str, body: Json, *, dry_run: bool = False) -> Json:
        """Keys that the server does not know are refused, not dropped. Raises Exists."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self.call("POST", path, what, body, query)

    def merge(self, path: str, what: str, body: Json) -> Json:
        """Changes those keys of an object that `body` has. Raises Missing, and Changed where it names a resourceVersion that is
        not the last."""
        return self.call("PATCH", path, what, body, content=MERGE)

    def delete(
        self, path: str, what: str, *, grace: float | None = None, uid: str = "", version: str = "", alone: bool = True
    ) -> bool:
        """Whether there was one. `uid`, `version`: only that very object, as it was then; else raises Changed. `alone`: what it
        owns is removed after it, not before."""
        wanted = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        body: Json = {"propagationPolicy": "Background" if alone else "Foreground"}
        body |= {"preconditions": wanted} if wanted else {}
        body |= {"gracePeriodSeconds": round(grace)} if grace is not None else {}
        try:
            self.call("DELETE", path, what, body)
        except Missing:
            return False
        return True

    def call(
        self,
        method: str,
        path: str,
        what: str,
        body: Json | Sequence[Any] | None = None,
        query: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> Json:
        """One call, made once, but for a login that has lapsed, which is renewed."""
        answer = self._send(method, path, what, body, query or {}, content)
        try:
            return dict(answer.json()) if answer.content else {}
        except (ValueError, TypeError) as error:
            said = " ".join(answer.text.split())[:100]
            raise UnknownOutcome(no_server(what, self.context, f"it said {said!r}")) from error

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def tls(self) -> ssl.SSLContext:
        """For connections that are no requests: a websocket."""
        made = self.login.tls()
        if pair := self.login.credentials.certificate():
            try:
                load_pair(made, *pair)
            except OSError as error:  # ssl.SSLError is one
                raise AuthFailed(
                    f"the certificate that logging in to the Kubernetes context {self.context!r} gave cannot be used ({error}): "
                    "log in anew"
                ) from error
        return made

    # ------------------------------------------------------------ inside

    @cached_property
    def _bucket(self) -> Any:
        return shared_bucket("the Kubernetes API", CALLS_PER_SECOND, self.login.server)

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        body: Any,
        query: Mapping[str, Any],
        content: str = "application/json",
        accept: str = "application/json",
    ) -> requests.Response:
        def make() -> requests.Response:
            answer = self._open().request(
                method,
                self.login.server + path,
                params={key: value for key, value in query.items() if value not in (None, "")},
                json=body,
                headers={"Accept": accept, **({"Content-Type": content} if body is not None else {})},
                timeout=TIMEOUT,
            )
            if answer.status_code >= 400:
                raise ApiError(answer.status_code, answer.content, answer.headers)
            return answer

        def once() -> requests.Response:
            return call_once(self._bucket, make, lambda error: self._explained(error, what))

        try:
            return once()
        except AuthFailed as error:
            lapsed = isinstance(error.__cause__, ApiError) and error.__cause__.status == 401
            if not lapsed or not self.login.credentials.refused():
                raise
        self.close()
        return once()

    def _explained(self, error: Exception, what: str) -> ProviderError:
        return typed(error, what, self.login.context)

    def _open(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                session = requests.Session()
                session.headers["User-Agent"] = "clusterctl"
                session.auth = _Header(self.login)
                session.mount("https://", _Trusting(self.tls(), self.login.server_name))
                session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
                if self.login.proxy:
                    session.proxies = {"http": self.login.proxy, "https": self.login.proxy}
                self._session = session
            return self._session


class _Header(AuthBase):
    """Also keeps `requests` from taking a login for that host from ~/.netrc."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if header := self._login.credentials.header():
            request.headers["Authorization"] = header
        return request


class _Trusting(HTTPAdapter):
    """Checks the server by the context's own CA, and by nothing that the environment names."""

    def __init__(self, tls: ssl.SSLContext, server_name: str) -> None:
        self._pools: dict[str, Any] = {
            "ssl_context": tls,
            "cert_reqs": "CERT_NONE" if tls.verify_mode is ssl.CERT_NONE else "CERT_REQUIRED",
        }
        if server_name:
            self._pools |= {"server_hostname": server_name, "assert_hostname": server_name}
        elif tls.verify_mode is ssl.CERT_NONE:
            self._pools["assert_hostname"] = False
        super().__init__(pool_maxsize=CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more, **self._pools)

    def proxy_manager_for(self, *args: Any, **more: Any) -> Any:
        return super().proxy_manager_for(*args, **more, **self._pools)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The pool has it already."""
