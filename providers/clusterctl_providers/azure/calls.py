"""Every call to Azure goes through here: one session, one shared token bucket, typed errors.

Plain REST with a token of azure-identity: Microsoft's clients for machines and networks take 45 MB and two seconds to import
(docs/adr/0523). Many changes answer before they are done; `wait` asks until they are, as often as Azure says.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.azure.errors import ApiError, OperationError, retry_after, typed
from clusterctl_providers.azure.login import Login, endpoint_of, find_login, find_subscription
from clusterctl_providers.azure.login_errors import LoginFailed
from clusterctl_providers.azure.versions import version_of
from clusterctl_providers.cloud.bucket import shared_bucket
from clusterctl_providers.cloud.calls import call_once, pages, read

CALLS_PER_SECOND = 10.0  # Azure lets a caller have 25 reads a second in a subscription, and 10 changes
TIMEOUT = (5.0, 60.0)  # seconds: to connect, and for each part of an answer
LONGEST_WAIT = 900.0  # seconds; machines take a minute, their deletion several, images longer
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two looks at a change, where Azure does not say
CONNECTIONS = 64  # at the same time: a launch is a call for each machine
_ENDED = frozenset({"succeeded", "failed", "canceled"})
Query = Any  # a text, a number, or None for nothing


@dataclass(frozen=True)
class Answer:
    """Of a change that may still be under way. `operation` is where that can be asked, "" for one that is done."""

    method: str
    path: str
    status: int
    body: Mapping[str, Any]
    operation: str = ""
    pause: float = 0.0  # seconds that Azure wants to be left alone for


class Calls:
    """Thread-safe. Whatever fails is a ProviderError with Azure's own answer behind it. Paths are ids, such as
    /subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/N."""

    def __init__(self, settings: Mapping[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
        self._settings = dict(settings)
        self._endpoint = endpoint_of(settings)
        self._pause = pause
        self._wanted_region = str(settings.get("region") or "")
        self._subscription = str(settings.get("subscription") or "")
        rate = float(settings.get("calls_per_second") or CALLS_PER_SECOND)
        self.bucket = shared_bucket("Azure", rate, self._subscription, self._endpoint)
        self._session: Any = None
        self._login: Login | None = None
        self.login_as: Callable[[], str] = lambda: ""  # the id of the managed identity that a machine of ours takes
        self._lock = threading.RLock()

    @property
    def subscription(self) -> str:
        """Its id: of the settings, else of the environment or `az`."""
        if not self._subscription:
            self._subscription = find_subscription(self._settings)
        if not self._subscription:
            raise AuthFailed(
                "no Azure subscription is known: write `provider: {azure: {subscription: ...}}`, set AZURE_SUBSCRIPTION_ID, or "
                "choose one with `az account set --subscription NAME`"
            )
        return self._subscription

    @property
    def region(self) -> str:
        if not self._wanted_region:
            raise BadRequest("no Azure region is known: write `provider: {azure: {region: eastus}}`")
        return self._wanted_region

    @property
    def caller(self) -> str:
        """Who these credentials are, as far as their token says. Raises ProviderError."""
        return self._asked_login(lambda login: login.name)

    @property
    def principal(self) -> str:
        """The id by which roles are given to who calls, "" where the token does not say. Raises ProviderError."""
        return self._asked_login(lambda login: login.principal)

    def _asked_login(self, ask: Callable[[Login], str]) -> str:
        try:
            return ask(self._logged_in()[1])
        except LoginFailed as error:
            raise typed(error, "asking who is logged in") from error

    def path(self, *parts: str, group: str = "") -> str:
        """The id of what is in the subscription, or in one of its resource groups: path("Microsoft.Compute", "virtualMachines",
        group="g") for its machines."""
        base = f"/subscriptions/{self.subscription}" + (f"/resourceGroups/{group}" if group else "")
        return "/".join([base, *(["providers"] if parts else []), *parts])

    # ------------------------------------------------------------ what changes nothing

    def get(self, path: str, what: str, **query: Query) -> dict[str, Any]:
        """Repeated a few times when Azure is busy or the line breaks. Members of the query are called as Azure calls them, with
        _ for the $ before some of them."""
        return self.ask("GET", path, what, **query)

    def ask(
        self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None, **query: Query
    ) -> dict[str, Any]:
        """The same for questions that are no GET."""
        return read(lambda: dict(self.change(method, path, what, body, **query).body), self._pause)

    def pages(self, path: str, what: str, **query: Query) -> Iterator[dict[str, Any]]:
        """Pages of a list, one after the other. Raises ProviderError when one is not to be had."""

        def page(link: str) -> tuple[dict[str, Any], str]:
            url = self._own(link, what) if link else ""
            found = read(lambda: self._call("GET", url or path, what, None, {}, {} if url else query), self._pause).body
            return dict(found), str(found.get("nextLink") or "")

        yield from pages(page, what, "Azure")

    def list(self, path: str, what: str, **query: Query) -> list[dict[str, Any]]:
        """All that a list has, its pages put together."""
        return [row for page in self.pages(path, what, **query) for row in page.get("value") or ()]

    # ------------------------------------------------------------ what changes something

    def change(
        self,
        method: str,
        path: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Query,
    ) -> Answer:
        """One call, made once. It may be accepted only: `wait` is for what comes of it."""
        return self._call(method, path, what, body, headers or {}, query)

    def wait(self, answer: Answer, what: str) -> dict[str, Any]:
        """What became of a change: the resource, {} for one that is gone. Raises the error that it ended with, typed;
        UnknownOutcome where it takes too long."""
        until = time.monotonic() + LONGEST_WAIT
        pause, found = FIRST_PAUSE, answer
        while True:
            if (ended := self._ended(answer, found, what)) is not None:
                return ended
            if time.monotonic() > until:
                raise UnknownOutcome(f"{what}: it was accepted, and is not done after {LONGEST_WAIT / 60:g} minutes")
            self._pause(found.pause or pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
            found = self._look(answer, what)

    def is_done(self, answer: Answer, what: str) -> bool:
        """Whether a change has come to its end, asked once. Raises the error that it ended with, typed."""
        return self._ended(answer, self._look(answer, what), what) is not None

    def run(
        self,
        method: str,
        path: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Query,
    ) -> dict[str, Any]:
        """A change and what came of it."""
        return self.wait(self.change(method, path, what, body, headers, **query), what)

    def close(self) -> None:
        self._log_in_anew()

    # ------------------------------------------------------------ what is under way

    def _look(self, answer: Answer, what: str) -> Answer:
        url = self._own(answer.operation, what) if answer.operation else answer.path
        return read(lambda: self._call("GET", url, what, None, {}, {}), self._pause)

    def _ended(self, asked: Answer, found: Answer, what: str) -> dict[str, Any] | None:
        """None for what is still under way."""
        if found is asked and asked.operation:
            return None
        if not asked.operation:
            state = _state(found.body)
            if state in ("failed", "canceled"):
                self._raise(found.body.get("properties") or {}, what)
            return dict(found.body) if state in (*_ENDED, "") or asked.method == "DELETE" else None
        status = str(found.body.get("status") or "").lower()
        if found.status == 202 or (status and status not in _ENDED):
            return None
        if status in ("failed", "canceled"):
            self._raise(found.body, what)
        return {} if asked.method == "DELETE" else self._result(asked, found, what)

    def _result(self, asked: Answer, found: Answer, what: str) -> dict[str, Any]:
        if asked.method in ("PUT", "PATCH"):
            return self.get(asked.path, what)
        properties = found.body.get("properties")
        return dict(properties.get("output") or properties) if isinstance(properties, dict) else dict(found.body)

    def _raise(self, body: Mapping[str, Any], what: str) -> None:
        failed = OperationError(body)
        raise typed(failed, what, self._subscription) from failed

    # ------------------------------------------------------------ inside

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        query: Mapping[str, Query],
    ) -> Answer:
        """`path`: an id, or one of Azure's own links, which says all that it takes."""
        linked = path.startswith("https://")
        url = path if linked else self._endpoint + path
        given = {("$" + name[1:] if name.startswith("_") else name): v for name, v in query.items() if v is not None}
        if not linked:
            given["api-version"] = version_of(path)

        def make() -> Answer:
            session, login = self._logged_in()
            token = login.token()
            sent = {"Authorization": f"Bearer {token}", **headers}
            got = session.request(method, url, params=given, json=body, headers=sent, timeout=TIMEOUT)
            if got.status_code >= 400:
                raise ApiError(got.status_code, got.content, got.headers)
            operation = got.headers.get("Azure-AsyncOperation") or ""
            if not operation and got.status_code == 202:
                operation = got.headers.get("Location") or ""
            return Answer(method, path, got.status_code, _json(got.content), operation, retry_after(got.headers))

        return call_once(self.bucket, make, lambda error: self._explained(error, what))

    def _own(self, link: str, what: str) -> str:
        """A link that Azure gave: the token goes nowhere else than to Azure."""
        host, ours = urlsplit(link).netloc.lower(), urlsplit(self._endpoint).netloc.lower()
        if not link.startswith("https://") or (host != ours and not host.endswith(f".{ours}")):
            raise UnknownOutcome(f"{what}: Azure names {link.partition('?')[0]}, which is not at {self._endpoint}")
        return link

    def _explained(self, error: Exception, what: str) -> ProviderError:
        wrong = typed(error, what, self._subscription)
        if isinstance(wrong, AuthFailed):
            self._log_in_anew()
        return wrong

    def _log_in_anew(self) -> None:
        """Credentials that lapsed are read again with the next call: a daemon outlives them."""
        with self._lock:
            session, login = self._session, self._login
            self._session = self._login = None
        for each in (session, login):
            if each is not None:
                each.close()

    def _logged_in(self) -> tuple[Any, Login]:
        with self._lock:
            if self._session is None or self._login is None:
                import requests
                from requests.adapters import HTTPAdapter

                self._login = find_login(self._settings, self.login_as())
                self._session = requests.Session()
                self._session.headers["User-Agent"] = "clusterctl"
                self._session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
            return self._session, self._login


def last_part(resource_id: str) -> str:
    """The name in an id."""
    return resource_id.rstrip("/").rpartition("/")[2]


def _state(body: Mapping[str, Any]) -> str:
    """In small letters; "" for what has none."""
    properties = body.get("properties")
    return str(properties.get("provisioningState") or "").lower() if isinstance(properties, dict) else ""


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content) if content.strip() else {}
    except ValueError:
        raise UnknownOutcome(f"Azure answered something else than JSON ({content[:80]!r})") from None
    return found if isinstance(found, dict) else {"value": found}
