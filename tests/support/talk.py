"""Programs that listen, and the other end of a conversation with them: for what carries bytes."""

from __future__ import annotations

import socket
import subprocess
import threading
from typing import Any

# Sends back what it hears while it hears it, and `bye` when the other side has ended its direction. Prints its port.
ECHO = """
import socket, sys, threading
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
sys.stdout.write(f"{listener.getsockname()[1]}\\n")  # in one piece: others print beside it
sys.stdout.flush()
def serve(client):
    with client:
        while data := client.recv(65536):
            client.sendall(data)
        client.sendall(b"bye")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


class Forwarder:
    """`clusterctl forward --json` under way. `rows`: what it said of each forwarding."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        import json

        assert process.stdout is not None
        self.process = process
        lines = [process.stdout.readline() for _ in range(count)]
        if not all(lines):
            raise AssertionError(f"it ended: {process.communicate()}")
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.said: list[str] = []
        self._heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def ports(self) -> list[int]:
        return [row["port"] for row in self.rows]

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line.rstrip("\n"))
                self._heard.notify_all()

    def wait_said(self, words: str, seconds: float = 60.0) -> str:
        """The line with these words."""
        with self._heard:
            assert self._heard.wait_for(lambda: any(words in line for line in self.said), seconds), self.said
            return next(line for line in self.said if words in line)

    def end(self, signal: int) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(signal)
        return self.process.wait(60)


def talk(port: int, data: bytes) -> bytes:
    """What comes back for `data` until the other side ends; both directions at once."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.settimeout(60)
        return converse(sock, data)


def converse(sock: Any, data: bytes) -> bytes:
    """The same over a connection that there is."""

    def send() -> None:
        try:
            sock.sendall(data)
            getattr(sock, "shutdown_write", lambda: sock.shutdown(socket.SHUT_WR))()
        except OSError:
            pass  # what comes back tells

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    heard = b""
    try:
        while piece := sock.recv(1 << 16):
            heard += piece
    except ConnectionError:
        pass
    sender.join(60)
    return heard
