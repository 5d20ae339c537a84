"""What a machine wrote to its serial port: Azure keeps it (boot diagnostics, in storage of its own), also of one that is off."""

from __future__ import annotations

import requests

from clusterctl.core.errors import BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import typed

CONSOLE_END = 20_000  # bytes
TIMEOUT = (5.0, 30.0)
MINUTES = 5  # that the link is good for


def console_log(calls: Calls, machine: str) -> str:
    """The end of it; "" where Azure has none (yet), as of one that is being made. `machine` is the machine's id."""
    what = f"reading the console of {machine.rpartition('/')[2]}"
    path = f"{machine}/retrieveBootDiagnosticsData"
    try:
        links = calls.ask("POST", path, what, sasUriExpirationTimeInMinutes=MINUTES)
    except BadRequest:
        return ""
    return _read(str(links.get("serialConsoleLogBlobUri") or ""), what)[-CONSOLE_END:]


def _read(link: str, what: str) -> str:
    """The link itself is what lets its bearer in: it is sent no token, and is in no message."""
    if not link.startswith("https://"):
        return ""
    try:
        got = requests.get(link, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise _hidden(typed(error, what), link) from None
    if got.status_code == 404:  # nothing was written yet
        return ""
    if got.status_code != 200:
        raise UnknownOutcome(f"{what}: the storage that keeps it answered {got.status_code}")
    return got.content.decode("utf-8", "replace")


def _hidden(error: ProviderError, link: str) -> ProviderError:
    address, _, secret = link.partition("?")
    text = str(error)
    for part in (link, link.removeprefix("https://"), secret):
        text = text.replace(part, f"{address}?..." if part != secret else "...") if part else text
    return type(error)(text)
