"""Why an engine does not answer, in words, and what to do about it: by the way that leads to it."""

from __future__ import annotations

from typing import cast

import requests

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl_providers.docker.endpoint import Endpoint, Tls
from clusterctl_providers.docker.ssh import SCHEME

_VARIABLES = "DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH to the directory with ca.pem, cert.pem and key.pem"
# of TLS: what the libraries say, and what it means
_OTHER_NAMES = ("hostname mismatch", "ip address mismatch", "doesn't match", "not valid for")
_NOT_TRUSTED = ("certificate verify failed", "self signed", "self-signed", "unable to get local issuer")
_WANTS_OURS = ("certificate required", "bad certificate", "alert", "handshake failure")
_HUNG_UP = "eof occurred in violation"
_SPEAKS_TLS = ("http request to an https server",)
_NO_TLS = ("wrong version number", "record layer failure", "packet length too long", "http_request")


def unreachable(endpoint: Endpoint, error: Exception, said: str = "") -> ProviderError:
    """`said`: what ssh printed, where it leads there."""
    text = in_words(error)
    if endpoint.host.startswith(SCHEME):
        return _through_ssh(endpoint.host, said or text)
    low = f"{text} {error}".lower()
    if endpoint.host.startswith(("tcp://", "https://", "http://")) and (trouble := _of_tls(endpoint, low)):
        return AuthFailed(f"the Docker engine at {endpoint.host} cannot be spoken to ({text}): {trouble}")
    if "permission denied" in low:
        return AuthFailed(
            f"the Docker engine at {endpoint.host} refuses this user ({text}): join the group docker (and log in anew), "
            "or set DOCKER_HOST to a rootless engine"
        )
    if "unauthorized" in low or "authentication required" in low or "authorization" in low:
        return AuthFailed(f"the Docker engine at {endpoint.host} refuses this user ({text}): ask whoever runs it")
    return ProviderError(
        f"no Docker engine answers at {endpoint.host} ({text}): start it (systemctl start docker), install it (docker.io), "
        "or set DOCKER_HOST"
    )


def _of_tls(endpoint: Endpoint, said: str) -> str:
    """What to do, "" where it is not a matter of TLS."""
    if any(part in said for part in _SPEAKS_TLS):
        return f"it speaks TLS; set {_VARIABLES}"
    if endpoint.tls is None:
        return ""
    if any(part in said for part in _NO_TLS):
        return "it does not speak TLS at that port; unset DOCKER_TLS_VERIFY, or name its TLS port (most often 2376)"
    if any(part in said for part in _OTHER_NAMES):
        return "its certificate is for other names than this one; name it in DOCKER_HOST as the certificate does"
    if any(part in said for part in _NOT_TRUSTED):
        return f"its certificate is not signed by {_ca(endpoint.tls)}; set {_VARIABLES} of this engine"
    if _HUNG_UP in said:
        return f"it ended the handshake; most often it does not take {_ours(endpoint.tls)}: set {_VARIABLES} of this engine"
    if any(part in said for part in _WANTS_OURS):
        return f"it does not take {_ours(endpoint.tls)}; set {_VARIABLES} of this engine"
    return ""


def _ca(tls: Tls) -> str:
    return tls.ca or "a CA that this machine trusts"


def _ours(tls: Tls) -> str:
    return f"the certificate {tls.cert}" if tls.cert else "anybody without a certificate"


def _through_ssh(host: str, said: str) -> ProviderError:
    way = f"no Docker engine answers through {host} ({said})"
    low = said.lower()
    if "permission denied (" in low or "host key verification" in low or "too many authentication" in low:
        return AuthFailed(f"{way}: `ssh` itself has to get there without a question, with a key and a known host key")
    if "docker.sock" in low and "permission denied" in low:
        return AuthFailed(f"{way}: its user there has to join the group docker")
    if "docker" in low and "not found" in low:
        return ProviderError(f"{way}: the docker command has to be on the PATH there, too")
    return ProviderError(f"{way}: see whether `ssh` gets there, and whether `docker version` works there")


def in_words(error: Exception) -> str:
    """What the engine said, or what the system said of the way to it, in one line."""
    text = str(getattr(error, "explanation", "") or _systems_word(error) or error)
    return " ".join(text.split())[:500]


def _systems_word(error: BaseException) -> str:
    """ "No such file or directory", where the libraries have wrapped that again and again; "" where there is no such word."""
    todo: list[object] = [error]
    seen: list[object] = []
    while todo:
        found = todo.pop()
        if isinstance(found, tuple):
            todo += cast("tuple[object, ...]", found)
        if not isinstance(found, BaseException) or found in seen:
            continue
        seen.append(found)
        if isinstance(found, OSError) and not isinstance(found, requests.RequestException) and found.strerror:
            return found.strerror
        todo += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
    return ""
