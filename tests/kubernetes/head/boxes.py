"""A kubelet whose pods run for real on this machine: each container with a root of its own (an overlay of this machine's), as the
user that its pod wants, with its volumes where they belong, and with `exec`. All pods are in one network of their own, in which
the addresses of services lead to the one pod that they are for. Needs root."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from clusterctl_runtime.backoff import Backoff, wait_until

from tests.pods.exec_server import V4, Endpoint
from tests.support.kubernetes.api import ApiError, Object
from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.pods import Kubelet

NODE = "boxes"
USER = 1000
RELAY = """
import asyncio, sys
async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data); await writer.drain()
    finally:
        writer.close()
async def serve(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Boxes:
    """Of one namespace. `directory` is private to it, and has the volumes' contents in `claims`."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path) -> None:
        self.plane, self.namespace, self.directory = plane, namespace, directory
        directory.mkdir()
        directory.chmod(0o711)
        self.claims = directory / "claims"
        self.claims.mkdir(mode=0o711)
        self._number = 0
        self.pods: dict[str, Box] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Boxes:
        with contextlib.ExitStack() as stack:
            self.network = stack.enter_context(
                _ended(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep infinity"])
            )
            self.way = ["nsenter", "--net", f"--target={self.network.pid}"]
            assert wait_until(self._is_up, Backoff(0.01, 0.2, seconds=60)), "the pods' network is up"
            stack.callback(Unix(self.directory / "api", self.plane.port).close)
            relay = [*self.way, sys.executable, "-c", RELAY, str(self.plane.port), str(self.directory / "api")]
            process = stack.enter_context(_ended(relay, stdout=subprocess.PIPE))
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.plane.identities.issue(f"kubelet-{self.namespace}", "127.0.0.1"))
            self.endpoint = stack.enter_context(Exec(self, context))
            stack.callback(self.plane.remove_node, self._add_node())
            stack.callback(self._stop_all)
            self.kubelet = stack.enter_context(Kubelet(self.plane, self.namespace, self._start))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    def volume(self, size: str = "20Gi") -> None:
        """A volume that a claim may have."""
        self._number += 1
        self.plane.api.create(
            "/api/v1/persistentvolumes",
            {
                "metadata": {"name": f"{self.namespace}-{self._number}"},
                "spec": {
                    "capacity": {"storage": size},
                    "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": "/nowhere"},
                    "persistentVolumeReclaimPolicy": "Retain",
                },
            },
        )

    # ------------------------------------------------------------ inside

    def _is_up(self) -> bool:
        done = subprocess.run([*self.way, "ip", "-o", "addr", "show", "dev", "lo"], capture_output=True, text=True)
        return "127.0.0.1" in done.stdout

    def _add_node(self) -> str:
        name = f"{NODE}-{self.namespace}"
        self.plane.add_node(name, cpu="16", memory="64Gi", labels={NODE: self.namespace})
        where = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.endpoint.port}},
        }
        self.plane.api.patch(f"/api/v1/nodes/{name}/status", {"status": where})
        return name

    def _stop_all(self) -> None:
        for box in self.pods.values():
            box.kill()
            box.wait()

    def _start(self, pod: Object) -> Box:
        self._number += 1
        meta = pod["metadata"]
        for service in self.plane.api.get(f"/api/v1/namespaces/{self.namespace}/services")["items"]:
            selector = service["spec"].get("selector") or {}
            if selector and selector.items() <= meta["labels"].items():
                address = f"{service['spec']['clusterIP']}/32"
                subprocess.run([*self.way, "ip", "addr", "replace", address, "dev", "lo"], check=True)
        place = self.directory / f"{meta['name']}-{self._number}"
        box = self.pods[meta["name"]] = Box(self, pod, place, f"127.0.1.{self._number}")
        return box


class Box:
    """A pod that runs."""

    def __init__(self, boxes: Boxes, pod: Object, place: Path, address: str) -> None:
        self._boxes, self._pod, self._place = boxes, pod, place
        self.name: str = pod["metadata"]["name"]
        place.mkdir()
        place.chmod(0o755)
        (place / "hosts").write_text(f"127.0.0.1 localhost\n{address} {self.name}\n")
        self.volumes = {one["name"]: self._volume(one) for one in pod["spec"]["volumes"]}
        self._ending = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(one,), daemon=True) for one in pod["spec"]["containers"]
        ]
        self._code = 0
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------ as a process

    def wait(self) -> int:
        for thread in self._threads:
            thread.join()
        return self._code

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        self._ending.set()
        for name in list(self._running):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
                os.kill(self.pid(name), number)

    def pid(self, container: str) -> int:
        """Of its first program, as this machine counts. Raises IndexError while there is none."""
        outer = self._running[container].pid
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])

    def _keep(self, container: Object) -> None:
        again = self._pod["spec"]["restartPolicy"] == "Always"
        while not self._ending.is_set():
            process = self._running[container["name"]] = self._begin(container)
            self._code = process.wait()
            if not again:
                return
            self._ending.wait(0.5)

    def _begin(self, container: Object) -> subprocess.Popen[bytes]:
        root = self._place / container["name"] / "root"
        for part in ("root", "upper", "work"):
            (root.parent / part).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir=/,upperdir={root.parent}/upper,workdir={root.parent}/work"
        lines = [
            "set -e",
            f"mount -t overlay overlay -o {layers} {root}",
            f"mkdir -p {root}/proc && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev",
            f"mount -t tmpfs tmpfs {root}/tmp && chmod 1777 {root}/tmp",
            f"mount --bind {self._place}/hosts {root}/etc/hosts",
            f"mount -t tmpfs tmpfs {root}/run",
        ]
        for mount in container["volumeMounts"]:
            place = mount["mountPath"].replace("/var/run/", "/run/")  # a link, which would lead out of this root
            source, target = self.volumes[mount["name"]], f"{root}{place}"
            if mount.get("subPath"):
                source = source / mount["subPath"]
                source.mkdir(exist_ok=True)
                os.chown(source, 0, USER)
                source.chmod(0o2775)
            if mount["mountPath"] != "/dev/shm":
                lines.append(f"mkdir -p {target} && mount --bind {source} {target}")
        lines.append(f"hostname {self.name}")
        user = f"setpriv --reuid {USER} --regid {USER} --groups {USER} --no-new-privs --bounding-set=-all"
        command = shlex.join([*environment_argv(self.environment(container)), *container["command"]])
        lines.append(f"exec chroot {root} {user} env -C {container['workingDir']} {command}")
        log = (self._place / f"{container['name']}.log").open("ab")
        unshare = [
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            "\n".join(lines),
        ]
        return subprocess.Popen([*self._boxes.way, *unshare], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def environment(self, container: Object) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._boxes.plane.port),
            **{one["name"]: one["value"] for one in container["env"]},
        }

    # ------------------------------------------------------------ its volumes

    def _volume(self, volume: Object) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            place = self._boxes.claims / claim["claimName"]
        else:
            place = self._place / "volumes" / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        for name, data in self._content(volume).items():
            (place / name).write_bytes(data)
            os.chown(place / name, 0, USER)
            (place / name).chmod(0o440)
        os.chown(place, 0, USER)
        place.chmod(0o2775)
        return place

    def _content(self, volume: Object) -> dict[str, bytes]:
        if secret := volume.get("secret"):
            data = self._get("secrets", secret["secretName"])["data"]
            return {name: base64.b64decode(text) for name, text in data.items()}
        if config := volume.get("configMap"):
            found = self._get("configmaps", config["name"])
            binary = {name: base64.b64decode(text) for name, text in (found.get("binaryData") or {}).items()}
            return {**binary, **{name: text.encode() for name, text in (found.get("data") or {}).items()}}
        if sources := (volume.get("projected") or {}).get("sources"):
            parts = [self._projected(one) for one in sources]
            return {name: data for part in parts for name, data in part.items()}
        return {}

    def _projected(self, source: Object) -> dict[str, bytes]:
        if "downwardAPI" in source:
            return {"namespace": self._boxes.namespace.encode()}
        if "configMap" in source:
            return self._content(source)
        account = self._pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{self._boxes.namespace}/serviceaccounts/{account}/token"
        made = self._boxes.plane.api.create(path, {"spec": {"expirationSeconds": 3600}})
        return {"token": made["status"]["token"].encode()}

    def _get(self, plural: str, name: str) -> Object:
        """As a kubelet, which waits for what a pod wants to mount."""
        path = f"/api/v1/namespaces/{self._boxes.namespace}/{plural}/{name}"

        def look() -> Object | None:
            try:
                return self._boxes.plane.api.get(path)
            except ApiError as error:
                if error.code != 404:
                    raise
                return None

        found = wait_until(look, Backoff(0.05, 0.5, seconds=60))
        assert found, f"there is no {plural} {name}"
        return found


class Exec(Endpoint):
    """The kubelet's part of `exec`, in the protocol of old servers."""

    def __init__(self, boxes: Boxes, context: ssl.SSLContext) -> None:
        self._boxes = boxes
        super().__init__(context, [V4])

    def program(self, path: str, query: dict[str, list[str]]) -> tuple[list[str], dict[str, str], str]:
        _, kind, namespace, pod, name = path.split("/")
        assert (kind, namespace, query.get("input")) == ("exec", self._boxes.namespace, ["1"]), (path, query)
        box = self._boxes.pods[pod]
        container = next(one for one in box._pod["spec"]["containers"] if one["name"] == name)
        enter = ["nsenter", f"--target={box.pid(name)}", "--mount", "--pid", "--uts", "--ipc", "--net", "--root"]
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={USER}", "--no-new-privs"]
        begin = ["env", "-C", container["workingDir"], *environment_argv(box.environment(container))]
        return [*enter, *user, *begin, *query["command"]], dict(os.environ), "/"


class Unix:
    """A socket in the file system that leads to a port of this machine: for those in another network."""

    def __init__(self, path: Path, port: int) -> None:
        self._port, self._loop = port, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(asyncio.start_unix_server(self._serve, str(path)), self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer), return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def environment_argv(environment: dict[str, str]) -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]


@contextlib.contextmanager
def _ended(argv: list[str], **more: Any) -> Any:
    process = subprocess.Popen(argv, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
