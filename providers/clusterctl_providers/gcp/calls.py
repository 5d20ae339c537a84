"""Every call to Google Cloud goes through here: one session, one shared token bucket, typed errors.

Plain REST through google-auth, which knows every sort of credentials: Google's own compute client takes 150 MB and over a
second to import (docs/adr/0518). A change answers an operation whose errors come later, if at all; `wait` is a call that
returns when it is done, and nothing is polled.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.cloud.bucket import shared_bucket
from clusterctl_providers.cloud.calls import call_once, pages, read
from clusterctl_providers.gcp.errors import ApiError, OperationError, typed
from clusterctl_providers.gcp.login import find_login, name_of

CALLS_PER_SECOND = 15.0  # Google allows 25 of each sort; a look at a region is a call for each of its zones
TIMEOUT = (5.0, 60.0)  # seconds: to connect, and for each part of an answer
WAIT_TIMEOUT = (5.0, 150.0)  # `wait` answers after two minutes at most
LONGEST_WAIT = 600.0  # seconds; machines take one or two minutes, images several
CONNECTIONS = 32  # at the same time
PAGE = 500  # the most that Compute Engine puts on one
_FULL = "NO_RESULTS_ON_PAGE"  # a warning of scopes that are empty: nothing is missing
# Compute's paths follow the project; those of the others are whole.
_ROOTS = {"compute": "/compute/v1/"}
Query = Any


class Calls:
    """Thread-safe. Whatever fails is a ProviderError with Google's own answer behind it."""

    def __init__(self, settings: Mapping[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
        self._endpoint = str(settings.get("endpoint_url") or "").rstrip("/")
        self._wanted_project = str(settings.get("project") or "")
        self._wanted_region = str(settings.get("region") or "")
        self._settings = dict(settings)
        rate = float(settings.get("calls_per_second") or CALLS_PER_SECOND)
        self._pause = pause
        self.bucket = shared_bucket("Google Cloud", rate, self._wanted_project, self._endpoint)
        self._session: Any = None
        self._found_project = ""
        self._lock = threading.RLock()

    @property
    def project(self) -> str:
        """Its id: of the settings, else of the environment or the credentials."""
        if not self._wanted_project:
            self._open_session()
        project = self._wanted_project or self._found_project
        if not project:
            raise BadRequest(
                "no Google Cloud project is known: write `provider: {gcp: {project: my-project}}`, or set GOOGLE_CLOUD_PROJECT"
            )
        return project

    @property
    def region(self) -> str:
        region = self._wanted_region or os.environ.get("CLOUDSDK_COMPUTE_REGION", "")
        if not region:
            raise BadRequest(
                "no Google Cloud region is known: write `provider: {gcp: {region: us-central1}}`, or set CLOUDSDK_COMPUTE_REGION"
            )
        return region

    @property
    def caller(self) -> str:
        """Who these credentials are, as far as they know it themselves."""
        return name_of(self._open_session().credentials)

    # ------------------------------------------------------------ what changes nothing

    def get(self, path: str, what: str, service: str = "compute", **query: Query) -> dict[str, Any]:
        """Repeated a few times when Google is busy or the line breaks."""
        return self.ask("GET", path, what, service=service, **query)

    def ask(
        self,
        method: str,
        path: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        service: str = "compute",
        **query: Query,
    ) -> dict[str, Any]:
        """The same for questions that are no GET, such as testIamPermissions."""
        return read(lambda: self.change(method, path, what, body, service, **query), self._pause)

    def pages(self, path: str, what: str, service: str = "compute", **query: Query) -> Iterator[dict[str, Any]]:
        """Pages of a list, one after the other. Raises ProviderError when a page is not to be had, and after the last one where
        Google says that some of its zones did not answer."""
        missing: list[str] = []

        def page(token: str) -> tuple[dict[str, Any], str]:
            more = {"pageToken": token} if token else {}
            found = self.get(path, what, service, **query, **more)
            missing.extend(_missing(found))
            return found, str(found.get("nextPageToken") or "")

        yield from pages(page, what, "Google Cloud")
        if missing:
            raise UnknownOutcome(
                f"{what}: Google Cloud could not look everywhere ({'; '.join(dict.fromkeys(missing))})"
            )

    # ------------------------------------------------------------ what changes something

    def change(
        self,
        method: str,
        path: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        service: str = "compute",
        **query: Query,
    ) -> dict[str, Any]:
        """One call, made once. Compute answers an operation, which `wait` is for."""
        return self._call(method, self._url(service, path), what, body, TIMEOUT, query)

    def wait(self, operation: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The operation when it is done. Raises the error that it ended with, typed; UnknownOutcome where it takes too long."""
        until = time.monotonic() + LONGEST_WAIT
        found = dict(operation)
        while found.get("status") != "DONE":
            if time.monotonic() > until:
                raise UnknownOutcome(
                    f"{what}: the operation {found['name']} is not done after {LONGEST_WAIT / 60:g} minutes"
                )
            found = self._waited(f"{relative(str(operation['selfLink']))}/wait", what)
        return self._unfailed(found, what)

    def look(self, operation: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The operation as it is now. Raises the error that it ended with, typed."""
        if operation.get("status") == "DONE":
            return self._unfailed(dict(operation), what)
        return self._unfailed(self.get(relative(str(operation["selfLink"])), what), what)

    def _unfailed(self, found: dict[str, Any], what: str) -> dict[str, Any]:
        if found.get("error"):
            failed = OperationError(found)
            raise typed(failed, what, self._context) from failed
        return found

    def _waited(self, path: str, what: str) -> dict[str, Any]:
        """The operation as it is when it is done, or after two minutes."""
        url = self._url("compute", path)
        return read(lambda: self._call("POST", url, what, None, WAIT_TIMEOUT, {}), self._pause)

    def run(
        self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None, **query: Query
    ) -> dict[str, Any]:
        """A change of Compute's and what came of it."""
        return self.wait(self.change(method, path, what, body, **query), what)

    def close(self) -> None:
        self._log_in_anew()

    # ------------------------------------------------------------ inside

    def _call(
        self,
        method: str,
        url: str,
        what: str,
        body: Mapping[str, Any] | None,
        timeout: tuple[float, float],
        query: Mapping[str, Query],
    ) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            given = {name: _text(value) for name, value in query.items() if value is not None}
            answer = self._open_session().request(method, url, params=given, json=body, timeout=timeout)
            if answer.status_code >= 400:
                raise ApiError(answer.status_code, answer.content, answer.headers)
            return dict(answer.json()) if answer.content else {}

        return call_once(self.bucket, make, lambda error: self._explained(error, what))

    def _explained(self, error: Exception, what: str) -> ProviderError:
        wrong = typed(error, what, self._context)
        if isinstance(wrong, AuthFailed):
            self._log_in_anew()
        return wrong

    @property
    def _context(self) -> str:
        """The project, for links into Google's console; "" while it is not known."""
        return self._wanted_project or self._found_project

    def _log_in_anew(self) -> None:
        """Credentials that lapsed are read again with the next call: a daemon outlives them."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _url(self, service: str, path: str) -> str:
        """`path` follows the project in Compute's, unless it begins with another one ("projects/ubuntu-os-cloud/...")."""
        host = f"{service}.googleapis.com"
        base = f"{self._endpoint}/{host}" if self._endpoint else f"https://{host}"
        root = _ROOTS.get(service)
        if root is None:
            return f"{base}/{path.lstrip('/')}"
        if not path.startswith("projects/"):
            path = f"projects/{quote(self.project)}/{path}".rstrip("/")
        return f"{base}{root}{path}"

    def _open_session(self) -> Any:
        with self._lock:
            if self._session is None:
                credentials, self._found_project = find_login(self._settings)
                from google.auth.transport.requests import AuthorizedSession
                from requests.adapters import HTTPAdapter

                session = AuthorizedSession(credentials)
                session.headers["User-Agent"] = "clusterctl"
                for scheme in ("http://", "https://"):
                    session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
                self._session = session
            return self._session


def relative(url: str) -> str:
    """What follows the version in a link to one of Compute's things: "projects/P/zones/Z/instances/N"."""
    return url.rpartition("/compute/v1/")[2] if "/compute/v1/" in url else url


def last_part(url: str) -> str:
    """The name in a link: the zone, the type, the disk."""
    return url.rpartition("/")[2]


def _text(value: Query) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value


def _missing(page: Mapping[str, Any]) -> list[str]:
    """What a page says that it lacks: scopes that did not answer."""
    found = [last_part(scope) for scope in (*page.get("unreachables", ()), *page.get("unreachable", ()))]
    warnings = [page.get("warning")]
    if isinstance(items := page.get("items"), dict):
        warnings += [scoped.get("warning") for scoped in items.values()]
    return found + [f"{w.get('code')}: {w.get('message')}" for w in warnings if w and w.get("code") != _FULL]
