"""How the API server is told who asks: a header, which may change while a daemon runs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from clusterctl.core.errors import AuthFailed

PLUGIN_SECONDS = 60.0  # that a login plugin may take
EARLY = 60.0  # seconds before its end that a token is not used any more
_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))


class Credentials(Protocol):
    """Thread-safe."""

    def header(self) -> str:
        """The value of `Authorization`, "" for none. Raises AuthFailed."""
        ...

    def certificate(self) -> tuple[bytes, bytes] | None:
        """A client certificate and its key, in PEM, where logging in gives one."""
        ...

    def refused(self) -> bool:
        """The server did not take the last header. Whether the next one may be another."""
        ...


def sendable(token: str, what: str) -> str:
    """It. Raises AuthFailed, which does not show it, for one that no header can have."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise AuthFailed(
            f"{what} is no token, but empty or with spaces, line breaks or letters that none has: log in anew"
        )
    return token


class Nobody:
    """A client certificate says it, or nothing does."""

    def header(self) -> str:
        return ""

    def certificate(self) -> tuple[bytes, bytes] | None:
        return None

    def refused(self) -> bool:
        return False


class Token(Nobody):
    def __init__(self, token: str) -> None:
        self._token = token

    def header(self) -> str:
        return f"Bearer {self._token}"


class Basic(Nobody):
    def __init__(self, user: str, password: str) -> None:
        self._text = base64.b64encode(f"{user}:{password}".encode()).decode()

    def header(self) -> str:
        return f"Basic {self._text}"


class TokenFile(Nobody):
    """The kubelet writes a new one into a service account's file before the old one ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def header(self) -> str:
        try:
            return f"Bearer {sendable(self._path.read_text(), f'what the token file {self._path} has')}"
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise AuthFailed(f"the token file {self._path} cannot be read ({why})") from error


class Plugin:
    """A command of the kubeconfig's `exec`, such as gke-gcloud-auth-plugin, `aws eks get-token` or kubelogin; run again when
    what it gave ends or is not taken."""

    def __init__(self, told: Mapping[str, Any], context: str, beside: str, cluster: Mapping[str, Any]) -> None:
        self._told, self._context, self._cluster = told, context, cluster
        command = str(told.get("command") or "")
        self._command = str(Path(beside) / command) if "/" in command else command
        self._lock = threading.Lock()
        self._given: Mapping[str, Any] = {}
        self._until = 0.0

    def header(self) -> str:
        token = self._status().get("token")
        return f"Bearer {token}" if token else ""

    def certificate(self) -> tuple[bytes, bytes] | None:
        given = self._status()
        certificate, key = given.get("clientCertificateData"), given.get("clientKeyData")
        return (str(certificate).encode(), str(key).encode()) if certificate and key else None

    def refused(self) -> bool:
        with self._lock:
            self._given, self._until = {}, 0.0
        return True

    def _status(self) -> Mapping[str, Any]:
        with self._lock:
            if time.time() >= self._until:
                self._given = self._run()
                self._until = _end_of(self._given)
            return self._given

    def _run(self) -> Mapping[str, Any]:
        version = str(self._told.get("apiVersion") or _VERSIONS[1])
        what = f"logging in to the Kubernetes context {self._context!r} by {self._command}"
        if version not in _VERSIONS:
            raise AuthFailed(f"{what}: it speaks {version}, which is not known here")
        info: dict[str, Any] = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
        if self._told.get("provideClusterInfo"):
            info["spec"]["cluster"] = dict(self._cluster)
        more = {str(one["name"]): str(one["value"]) for one in self._told.get("env") or ()}
        argv = [self._command, *map(str, self._told.get("args") or ())]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, **more, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                timeout=PLUGIN_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            hint = str(self._told.get("installHint") or "install it").strip()
            raise AuthFailed(f"{what}: there is no such command here: {' '.join(hint.split())}") from error
        except subprocess.TimeoutExpired as error:
            raise AuthFailed(f"{what} failed: it took over {PLUGIN_SECONDS:g} s") from error
        except (OSError, ValueError) as error:  # an argument that no program can have
            raise AuthFailed(f"{what} failed ({error})") from error
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())[-500:]
            raise AuthFailed(f"{what} failed ({said or f'exit status {done.returncode}'}): log in to your cloud anew")
        return _given(done.stdout, what)


def _given(printed: bytes, what: str) -> Mapping[str, Any]:
    """The status of an ExecCredential that has what one can log in with."""
    try:
        status: Any = json.loads(printed)["status"]
        found = {str(key): value for key, value in status.items() if value}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AuthFailed(f"{what} failed: it printed no credentials") from error
    if "token" in found:
        return {**found, "token": sendable(str(found["token"]), f"{what}: what it printed")}
    if not {"clientCertificateData", "clientKeyData"} <= found.keys():
        raise AuthFailed(f"{what} failed: it printed no credentials")
    return found


def _end_of(status: Mapping[str, Any]) -> float:
    """Unix seconds until which it is used."""
    ends = str(status.get("expirationTimestamp") or "")
    try:
        return datetime.fromisoformat(ends.replace("Z", "+00:00")).timestamp() - EARLY if ends else float("inf")
    except ValueError:
        return float("inf")
