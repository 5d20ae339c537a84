"""Which API server is spoken to, and as whom: a context of the user's kubeconfig, or the service account of the pod that this is.

Files are read as kubectl reads them: KUBECONFIG may name several, of which the first to have a name counts, and paths in a
file are relative to it.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yaml
from clusterctl_runtime.files.private import part_of

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl_providers.kubernetes.credentials import Basic, Credentials, Nobody, Plugin, Token, TokenFile, sendable

DEFAULT = "~/.kube/config"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_CLUSTER = "in-cluster"  # what the context is called where a pod's service account is used
_SECTIONS = ("contexts", "clusters", "users")


@dataclass(frozen=True)
class Login:
    """`server` is an URL. `tls` makes what the connection is checked with; `server_name` is the name in the server's
    certificate where that is not the host's; `proxy` an URL, "" for what the environment says."""

    context: str
    server: str
    namespace: str
    credentials: Credentials
    tls: Callable[[], ssl.SSLContext]
    server_name: str = ""
    proxy: str = ""


def find_login(settings: Mapping[str, Any]) -> Login:
    """By `context` and `namespace` of the settings; `kubeconfig` there is what KUBECONFIG was when the cluster was made, for a
    shell that has none. Without a context: that of the pod that this is, else the current one.
    Raises BadRequest where there is none, AuthFailed for what cannot be logged in with."""
    context, namespace = str(settings.get("context") or ""), str(settings.get("namespace") or "")
    if context in ("", IN_CLUSTER) and (ACCOUNT / "token").exists() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _of_pod(namespace)
    config, files = _read(kubeconfig() or str(settings.get("kubeconfig") or ""))
    context = context or str(config.get("current-context") or "")
    if not context:
        raise BadRequest(
            f"no Kubernetes context is known ({files} names none): write `provider: {{kubernetes: {{context: ...}}}}`, or choose "
            "one with `kubectl config use-context`"
        )
    found = _named(config, "contexts", context)
    if not found:
        known = ", ".join(sorted(config["contexts"])) or "none"
        raise BadRequest(
            f"there is no Kubernetes context {context!r} in {files} (it has: {known}): write one of these under "
            "`provider: {kubernetes: {context: ...}}`, or get this one (docs/kubernetes.md says how for each cloud)"
        )
    cluster, user = _named(config, "clusters", found.get("cluster")), _named(config, "users", found.get("user"))
    if not cluster.get("server"):
        raise BadRequest(f"the Kubernetes context {context!r} names no API server: mend {files}")
    return Login(
        context,
        _url(cluster["server"], "server", context, files).rstrip("/"),
        namespace or str(found.get("namespace") or "default"),
        _credentials(user, context, cluster),
        lambda: _tls(cluster, user, context),
        str(cluster.get("tls-server-name") or ""),
        _url(cluster.get("proxy-url") or "", "proxy-url", context, files),
    )


def _url(value: Any, key: str, context: str, files: str) -> str:
    """What is none would be told of as a line that broke. "" is left as it is."""
    text = str(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        good = False
    if text and (not good or re.search(r"[\s\x00-\x1f]", text)):
        raise BadRequest(
            f"the Kubernetes context {context!r} has `{key}: {text[:100]}`, which is no URL: mend {files}, or get the context "
            "anew"
        )
    return text


def _of_pod(namespace: str) -> Login:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    own = ACCOUNT / "namespace"
    return Login(
        IN_CLUSTER,
        f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace or (own.read_text().strip() if own.exists() else "default"),
        TokenFile(ACCOUNT / "token"),
        lambda: ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
    )


def kubeconfig() -> str:
    """KUBECONFIG, with whole paths: what a cluster notes of where it was made outlives this directory."""
    files = [one for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    return os.pathsep.join(str(Path(one).expanduser().absolute()) for one in files)


def _read(named: str) -> tuple[dict[str, Any], str]:
    """(all files as one, which they are for a sentence): each section by name."""
    paths = [Path(one) for one in named.split(os.pathsep) if one]
    paths = paths or [Path(DEFAULT).expanduser()]
    whole: dict[str, Any] = {section: {} for section in _SECTIONS}
    for path in paths:
        try:
            data = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise BadRequest(f"the kubeconfig {path} cannot be read ({' '.join(str(error).split())})") from error
        whole.setdefault("current-context", data.get("current-context") or None)
        whole["current-context"] = whole["current-context"] or data.get("current-context")
        for section in _SECTIONS:
            entries: Any = data.get(section) or []
            if not isinstance(entries, list) or not all(isinstance(one, dict) and one.get("name") for one in entries):
                raise BadRequest(f"the kubeconfig {path} is none: its `{section}` is no list of things with names")
            for entry in map(_mapping, entries):
                inner = {**_mapping(entry.get(section[:-1])), "_beside": str(path.parent)}
                whole[section].setdefault(str(entry.get("name")), inner)
    return whole, " and ".join(map(str, paths))


def _named(config: Mapping[str, Any], section: str, name: Any) -> dict[str, Any]:
    return config[section].get(str(name)) or {}


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _credentials(user: Mapping[str, Any], context: str, cluster: Mapping[str, Any]) -> Credentials:
    if user.get("tokenFile"):
        return TokenFile(_beside(user, str(user["tokenFile"])))
    if user.get("token"):
        return Token(sendable(str(user["token"]), f"the token of the Kubernetes context {context!r}"))
    if plugin := user.get("exec"):
        return Plugin(_plugin(plugin, context), context, str(user["_beside"]), _cluster_for_plugins(cluster))
    if user.get("username"):
        return Basic(str(user["username"]), str(user.get("password") or ""))
    if user.get("auth-provider"):
        raise AuthFailed(
            f"the Kubernetes context {context!r} logs in by `auth-provider`, which Kubernetes dropped in 1.26: get it anew with "
            "your cloud's command (gcloud container clusters get-credentials, aws eks update-kubeconfig, az aks get-credentials)"
        )
    return Nobody()


def _plugin(told: Any, context: str) -> Mapping[str, Any]:
    """`exec` of a user. Raises AuthFailed for what cannot be run."""
    told = _mapping(told)
    env, args = told.get("env") or [], told.get("args") or []
    named = isinstance(env, list) and all(isinstance(one, dict) and {"name", "value"} <= one.keys() for one in env)
    if not told.get("command") or not named or not isinstance(args, list):
        raise AuthFailed(
            f"the Kubernetes context {context!r} logs in by an `exec` that cannot be run (it has a `command`, `args` as a list, "
            "and `env` as a list of name and value): get the context anew"
        )
    return told


def _cluster_for_plugins(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """As KUBERNETES_EXEC_INFO has it."""
    keys = ("server", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name", "proxy-url")
    return {key: cluster[key] for key in keys if cluster.get(key)}


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], context: str) -> ssl.SSLContext:
    """What is given as data goes through a file that nobody else can read, and only for as long as it is read."""
    try:
        made = ssl.create_default_context(
            cafile=str(_beside(cluster, str(cluster["certificate-authority"])))
            if cluster.get("certificate-authority")
            else None,
            cadata=_decoded(cluster.get("certificate-authority-data")).decode() or None,
        )
        if cluster.get("insecure-skip-tls-verify"):
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if user.get("client-certificate-data"):
            load_pair(made, _decoded(user["client-certificate-data"]), _decoded(user.get("client-key-data")))
        elif user.get("client-certificate"):
            cert, key = _beside(user, str(user["client-certificate"])), str(user.get("client-key") or "")
            made.load_cert_chain(cert, _beside(user, key) if key else None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise AuthFailed(
            f"the certificates of the Kubernetes context {context!r} cannot be used ({error}): get the context anew"
        ) from error
    return made


def load_pair(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """A client certificate that is no file, and has to be one for a moment."""
    with part_of(Path(tempfile.gettempdir()) / "clusterctl.pem") as file:
        with file.open("r+b") as written:
            written.write(certificate + b"\n" + key)
        tls.load_cert_chain(file)


def _beside(section: Mapping[str, Any], path: str) -> Path:
    return Path(section["_beside"]) / path


def _decoded(data: Any) -> bytes:
    """Raises ValueError for what has nothing in it: no CA would mean those of this machine."""
    found = base64.b64decode("".join(str(data).split()), validate=True) if data else b""
    if data and not found:
        raise ValueError("its data is empty")
    return found
