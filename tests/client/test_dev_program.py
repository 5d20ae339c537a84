"""The program that holds a node to work on, as a process of its own: who may connect, and what keeps it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources

import pytest

IDLE = 2.0
MARK = "clusterctl-dev "


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    settings = {
        "listen": "127.0.0.1", "secret_sha256": hashlib.sha256(b"known").hexdigest(), "key": "ssh-ed25519 AAAA",
        "idle": IDLE, "jupyter": False,
    }  # fmt: skip
    path = str(resources.files("clusterctl.client.dev").joinpath("program.py"))
    argv = [sys.executable, "-I", "-u", path, json.dumps(settings)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.kill()


def port_of(program: subprocess.Popen[str]) -> int:
    assert program.stdout is not None
    return int(json.loads(program.stdout.readline().removeprefix(MARK))["port"])


def connected(port: int, line: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.sendall(line)
    return sock


def check_let_go(program: subprocess.Popen[str]) -> None:
    assert program.stdout is not None
    assert program.stdout.read() == "nobody was connected for 2 s: this node is let go\n" and program.wait(60) == 0


def test_who_is_connected_keeps_it_and_nobody_for_so_long_ends_it(program: subprocess.Popen[str]) -> None:
    with connected(port_of(program), b"known hold\n") as held:
        held.settimeout(2 * IDLE)
        with pytest.raises(TimeoutError):
            held.recv(1)
        assert program.poll() is None, "longer than it would have stayed without"
    check_let_go(program)


def test_who_does_not_know_the_secret_is_cut_and_keeps_nothing(program: subprocess.Popen[str]) -> None:
    port = port_of(program)
    lines = (b"guessed hold\n", b"guessed leave\n", b"hold\n", b"x" * 1000, b"\xff\xfe hold\n")
    strangers = [connected(port, line) for line in lines]
    for stranger in strangers:
        with contextlib.suppress(ConnectionResetError):  # with what it said unread
            assert stranger.recv(1) == b""
    check_let_go(program)
    for stranger in strangers:
        stranger.close()
