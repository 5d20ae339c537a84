"""Pods whose agents run, as processes of this machine: what a kubelet mounts is written into a directory, and the pod's own
command is started there."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from clusterctl_providers.kubernetes.pod import AGENT, BOOTSTRAP, BUNDLE, DOCUMENT

from tests.support.cluster import wait_until
from tests.support.kubernetes.api import Api, ApiError, Object


class Agents:
    """A `start` for `Kubelet`. `directory` has a directory for each pod."""

    def __init__(self, api: Api, directory: Path) -> None:
        self._api, self._directory = api, directory

    def __call__(self, pod: Object) -> subprocess.Popen[bytes]:
        room = self._directory / pod["metadata"]["name"]
        room.mkdir()
        where = f"/api/v1/namespaces/{pod['metadata']['namespace']}"
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        bundle = self._waited(f"{where}/configmaps/{volumes['bundle']['configMap']['name']}")
        (room / AGENT).write_bytes(base64.b64decode(bundle["binaryData"][AGENT]))
        secret = self._waited(f"{where}/secrets/{volumes['bootstrap']['secret']['secretName']}")
        document = json.loads(base64.b64decode(secret["data"][DOCUMENT]))
        (room / DOCUMENT).write_text(json.dumps({**document, "directory": str(room / "node"), "address": "127.0.0.1"}))
        command = pod["spec"]["containers"][0]["command"]
        assert command == ["python3", "-I", f"{BUNDLE}/{AGENT}", "--bootstrap", f"{BOOTSTRAP}/{DOCUMENT}"]
        argv = [sys.executable, "-I", str(room / AGENT), "--bootstrap", str(room / DOCUMENT)]
        with (room / "log").open("wb") as log:
            return subprocess.Popen(
                argv, stdout=log, stderr=log, start_new_session=True, cwd=room, env={**os.environ, "HOME": str(room)}
            )

    def _waited(self, path: str) -> Object:
        """As the kubelet waits for what a pod mounts."""

        def found() -> Object | None:
            try:
                return self._api.get(path)
            except ApiError as error:
                if error.code != 404:
                    raise
                return None

        thing = wait_until(found, what=path)
        assert thing is not None
        return thing
