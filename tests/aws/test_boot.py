"""The fixed script of a new machine against a head's port: what it accepts, and what it does when it must not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.launch import MOST_USER_DATA
from clusterctl_providers.cloud.boot import boot_script, user_data
from clusterctl_runtime.head.network.certs import ensure_certificates, server_context
from clusterctl_runtime.head.nodes.bundle_server import serve_bundle

from clusterctl.core.errors import BadRequest
from tests.cloud.aws.metadata import Imds
from tests.cloud.metadata import MetadataServer

UID = "5f3a6f0e-57f4-4d39-a7e1-4c4a3e0b8a01"
AGENT = b"import json, sys\nprint('agent of', json.load(open(sys.argv[2]))['node_id'], flush=True)\n"
SHELL = {"PATH": "/usr/bin:/bin", "HOME": "/"}


class BundlePort:
    """The agents' port of a head, as far as machines without an agent see it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.ca = ensure_certificates(directory, UID)
        self.digest = hashlib.sha256(AGENT).hexdigest()
        self.bundle = directory / f"agent-{self.digest}.pyz"
        self.bundle.write_bytes(AGENT)
        self.served = 0
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(directory, ready), daemon=True)
        self._thread.start()
        assert ready.wait(60)

    def _run(self, directory: Path, ready: threading.Event) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                assert await reader.readexactly(4) == b"GET "
                self.served += 1
                await serve_bundle(reader, writer, self.bundle)
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                pass
            finally:
                writer.close()

        async def main() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(directory))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            server.close()

        self._loop.run_until_complete(main())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[BundlePort]:
    place = BundlePort(tmp_path / "head")
    yield place
    place.close()


class Machine:
    """Runs the script with its fixed paths moved below a directory; turning off leaves a file there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        tools = directory / "tools"
        tools.mkdir(parents=True)
        (tools / "python3").symlink_to(sys.executable)
        for name in ("systemctl", "shutdown", "poweroff"):
            (tools / name).write_text(f"#!/bin/sh\necho {name} $* >> {directory}/off\n")
            (tools / name).chmod(0o755)
        self.env = {**SHELL, "PATH": f"{tools}:/usr/bin:/bin"}

    def run(self, boot: dict[str, Any], nodes: list[tuple[str, int, str]], metadata: str = "") -> str:
        text = (
            user_data(boot, nodes, MOST_USER_DATA)
            .replace("/var/lib/clusterctl", str(self.state))
            .replace("/dev/console", "/dev/null")
        )
        text = text.replace("/run/systemd/system", "/nonexistent")
        if metadata:
            text = text.replace("http://169.254.169.254", metadata)
        script = self.directory / "user-data"
        script.write_text(text)
        script.chmod(0o700)
        done = subprocess.run([str(script)], env=self.env, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def off(self) -> bool:
        return (self.directory / "off").exists()

    def agent_says(self) -> str:
        path = self.state / "agent.log"
        for _ in range(500):
            if path.exists() and path.read_text():
                return path.read_text().strip()
            threading.Event().wait(0.02)
        return ""


def boot_of(port: BundlePort, **more: Any) -> dict[str, Any]:
    heads = [f"127.0.0.1:{port.port}"]
    return {
        "uid": UID,
        "heads": heads,
        "ca_pem": port.ca,
        "bundle_digest": port.digest,
        "orphan_timeout": 0.3,
        "metadata": "aws",
        **more,
    }


def test_the_agent_is_fetched_checked_and_started_with_this_nodes_papers(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port), [("cpu-7", 2, "once")])
    assert machine.agent_says() == "agent of cpu-7" and not machine.off()
    papers = json.loads((machine.state / "bootstrap.json").read_text())
    assert (papers["node_id"], papers["generation"], papers["join_token"]) == ("cpu-7", 2, "once")
    assert (machine.state / "bootstrap.json").stat().st_mode & 0o777 == 0o600
    assert machine.state.stat().st_mode & 0o777 == 0o700


def test_the_second_head_is_tried_when_the_first_is_silent(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    boot = boot_of(port, heads=["127.0.0.1:1", f"127.0.0.1:{port.port}"])
    assert "no agent from the head at 127.0.0.1:1" in machine.run(boot, [("cpu-1", 1, "t")])
    assert machine.agent_says() == "agent of cpu-1"


def test_one_flipped_byte_is_refused_and_the_machine_turns_off(port: BundlePort, tmp_path: Path) -> None:
    port.bundle.write_bytes(AGENT[:-2] + b"!\n")
    machine = Machine(tmp_path / "m")
    assert "digest is wrong" in machine.run(boot_of(port), [("cpu-1", 1, "t")])
    assert machine.off() and not (machine.state / "agent.pyz").exists()


def test_an_impostor_with_another_authority_is_refused(port: BundlePort, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = ensure_certificates(tmp_path / "other", UID)
    machine = Machine(tmp_path / "m")
    assert "certificate verify failed" in machine.run(boot_of(port, ca_pem=other), [("cpu-1", 1, "t")])
    assert machine.off() and port.served == 0, "not a byte was asked of it"


def test_a_head_of_another_cluster_is_refused_by_its_name(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    said = machine.run(boot_of(port, uid="00000000-57f4-4d39-a7e1-4c4a3e0b8a01"), [("cpu-1", 1, "t")])
    assert "certificate verify failed" in said and machine.off()


def test_a_digest_that_the_head_does_not_have_is_refused(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    assert "it answered 404" in machine.run(boot_of(port, bundle_digest="0" * 64), [("cpu-1", 1, "t")])
    assert machine.off()


def test_machines_of_one_launch_tell_themselves_apart_by_their_index(port: BundlePort, tmp_path: Path) -> None:
    server = MetadataServer("127.0.0.1", lambda _: {"ami-launch-index": "2"}, Imds(), port=0)
    try:
        machine = Machine(tmp_path / "m")
        machine.run(boot_of(port), [(f"cpu-{n}", 1, f"t{n}") for n in range(5)], f"http://127.0.0.1:{server.port}")
        assert machine.agent_says() == "agent of cpu-2"
    finally:
        server.close()


def test_an_image_without_python_says_so_and_turns_off(port: BundlePort, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    (tmp_path / "m/tools/python3").unlink()
    tools = tmp_path / "m/tools"
    for name in ("sh", "tee"):
        (tools / name).symlink_to(f"/bin/{name}")
    machine.env = {"PATH": str(tools)}
    text = user_data(boot_of(port), [("cpu-1", 1, "t")], MOST_USER_DATA).replace("/dev/console", "/dev/null")
    path = tmp_path / "m/user-data"
    path.write_text(text.replace("/usr/local/bin/python3 /opt/clusterctl/bin/python3", ""))
    done = subprocess.run(["/bin/sh", str(path)], env=machine.env, capture_output=True, text=True, timeout=120)
    assert "no Python >= 3.10" in done.stdout and done.returncode == 1 and machine.off()


def test_user_text_in_the_document_never_reaches_the_shell(port: BundlePort, tmp_path: Path) -> None:
    evil = "$(touch " + str(tmp_path / "pwned") + ")`id`'\";\n#clusterctl-document\nCLUSTERCTL_PYTHON\n"
    machine = Machine(tmp_path / "m")
    machine.run(boot_of(port, labels={"x": evil}), [("cpu-1", 1, "t")])
    assert machine.agent_says() == "agent of cpu-1" and not (tmp_path / "pwned").exists()
    assert json.loads((machine.state / "bootstrap.json").read_text())["labels"]["x"] == evil


def test_user_data_over_the_limit_is_refused_with_a_sentence() -> None:
    with pytest.raises(BadRequest, match=str(MOST_USER_DATA)):
        user_data({"x": "y" * MOST_USER_DATA}, [("cpu-1", 1, "t")], MOST_USER_DATA)


def test_the_script_is_posix_shell_and_small() -> None:
    subprocess.run(["/bin/sh", "-n"], input=boot_script(), text=True, check=True)
    assert len(boot_script().encode()) < 7500 and os.linesep == "\n"
