"""Calls over `requests` that never got an answer, each a sentence with what to look at.

AWS           has its own: botocore's exceptions
Google Cloud  google-auth's own come before and after these
Azure         those of its login come before these
"""

from __future__ import annotations

from clusterctl.core.errors import UnknownOutcome


def unreached(error: BaseException, what: str, cloud: str, text: str) -> UnknownOutcome | None:
    """`error` of `requests`, None for any other. `what` was tried; `text` is what the error says."""
    import requests

    if isinstance(error, requests.exceptions.ProxyError):
        return UnknownOutcome(f"{what}: the proxy could not be reached ({text}); see HTTPS_PROXY and NO_PROXY")
    if isinstance(error, requests.exceptions.SSLError):
        return UnknownOutcome(
            f"{what}: its certificate is not trusted here ({text}); name the CA of your network in REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return UnknownOutcome(
            f"{what}: {cloud} could not be reached in time ({text}); check the network, a firewall, and HTTPS_PROXY"
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return UnknownOutcome(f"{what}: {cloud} did not answer in time ({text})")
    return line_broke(what, cloud, text) if isinstance(error, requests.exceptions.ConnectionError) else None


def line_broke(what: str, cloud: str, text: str) -> UnknownOutcome:
    return UnknownOutcome(
        f"{what}: {cloud} could not be reached, or the line broke ({text}); check the network and HTTPS_PROXY"
    )
