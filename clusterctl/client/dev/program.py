"""Runs as a job on the node that was bought for it: a door for the one who knows the secret, to OpenSSH's server, to Jupyter, or
to nothing but being connected. Sent whole, for any Python 3.8 of the node.

Its argument is a JSON document: {"listen", "secret_sha256", "key": a public key, "idle": seconds, "jupyter"}. It says on stdout
where it listens, and ends when nobody was connected for so long, when Jupyter has ended, or when the last one leaves.
A connection begins with a line "SECRET SERVICE"; what follows belongs to the service.
"""

# pyright: basic
from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MARK = "clusterctl-dev "
LINE_SECONDS = 20.0  # for the first line of a connection
START_SECONDS = 120.0  # for Jupyter to listen
LEAVE_SECONDS = 3.0
LONGEST_LINE = 200
NOT_A_SHELL = ("nologin", "false", "true", "sync")
OF_A_LOGIN = re.compile(r"HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|MAIL|TERM|TMPDIR|SSH_.*|JUPYTER_TOKEN")


def main() -> None:
    """Returns when the node is not needed any more."""
    wanted = json.loads(sys.argv[1])
    directory = Path(tempfile.mkdtemp(prefix="dev-"))  # 0700
    try:
        sshd = Sshd(directory, wanted["key"])
        jupyter = Jupyter(directory) if wanted["jupyter"] else None
        door = Door(wanted, sshd, jupyter)
        facts = {"port": door.port, **sshd.facts(), "jupyter": jupyter.trouble if jupyter else None}
        print(MARK + json.dumps(facts), flush=True)
        print(door.until_unused(), flush=True)
        if jupyter:
            jupyter.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Door:
    """Listens, counts who is connected, and knows since when nobody is."""

    def __init__(self, wanted: dict, sshd: Sshd, jupyter: Jupyter | None) -> None:
        self._digest, self._idle = wanted["secret_sha256"], float(wanted["idle"])
        self._sshd, self._jupyter = sshd, jupyter
        self._changed = threading.Condition()
        self._open, self._used, self._why = 0, time.monotonic(), ""
        self._listener = socket.create_server((wanted["listen"], 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        if jupyter and jupyter.process:
            threading.Thread(target=self._when_jupyter_ends, args=(jupyter.process,), daemon=True).start()

    def until_unused(self) -> str:
        """Returns why it ends."""
        with self._changed:
            while not self._why:
                left = self._used + self._idle - time.monotonic()
                if not self._open and left <= 0:
                    return f"nobody was connected for {self._idle:g} s: this node is let go"
                self._changed.wait(None if self._open else left)
            return self._why

    def _end(self, why: str) -> None:
        with self._changed:
            self._why = why
            self._changed.notify_all()

    def _when_jupyter_ends(self, process: subprocess.Popen) -> None:
        self._end(f"Jupyter has ended with {process.wait()}: this node is let go")

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # who is gone without a word is noticed
            client.settimeout(LINE_SECONDS)
            secret, service = line_of(client).split()
            if not hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), self._digest):
                return
            client.settimeout(None)
            with self._counted():
                self._do(service, client)

    @contextlib.contextmanager
    def _counted(self):
        with self._changed:
            self._open += 1
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1
                self._used = time.monotonic()
                self._changed.notify_all()

    def _do(self, service: str, client: socket.socket) -> None:
        if service == "sshd":
            self._sshd.serve(client)
        elif service == "jupyter" and self._jupyter:
            self._jupyter.serve(client)
        elif service == "token" and self._jupyter:
            client.sendall(self._jupyter.token.encode())
        elif service == "hold":
            while client.recv(4096):
                pass
        elif service == "leave":
            with self._changed:  # the connection of the shell that has just ended is not gone at once
                self._changed.wait_for(lambda: self._open == 1, LEAVE_SECONDS)
                others = self._open - 1
            client.sendall(str(others).encode())
            if not others:
                self._end("the last one has left: this node is let go")


def line_of(client: socket.socket) -> str:
    """The first one, byte by byte: what follows belongs to somebody else. Raises ValueError."""
    line = b""
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        if not byte or len(line) > LONGEST_LINE:
            raise ValueError
        line += byte
    return line.decode()


class Sshd:
    """OpenSSH's server for this very user and one key, run anew for each connection, with the environment of the job. `trouble`
    says why there is none."""

    def __init__(self, directory: Path, key: str) -> None:
        self.directory, self.host_key = directory, ""
        self.user = pwd.getpwuid(os.getuid())
        self.program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin") or ""
        self.trouble = self._why_not()
        if not self.trouble:
            self._write(key)

    def facts(self) -> dict:
        return {"user": self.user.pw_name, "host_key": self.host_key, "no_ssh": self.trouble}

    def _why_not(self) -> str:
        if not self.program:
            return "OpenSSH's server (sshd) is not there"
        if Path(self.user.pw_shell).name in NOT_A_SHELL:
            return f"its user {self.user.pw_name} has no shell to log in to ({self.user.pw_shell})"
        made = subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.directory / "host")],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        ) if shutil.which("ssh-keygen") else None  # fmt: skip
        if made is None or made.returncode:
            return f"ssh-keygen made no host key ({made.stderr.strip() if made else 'it is not there'})"
        return ""

    def _write(self, key: str) -> None:
        self.host_key = " ".join((self.directory / "host.pub").read_text().split()[:2])
        (self.directory / "authorized").write_text(f"{key}\n")
        root = os.geteuid() == 0
        if root:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd wants there of root
        pam = root and self._is_locked() and Path("/etc/pam.d/sshd").exists()
        lines = [
            f"HostKey {self.directory}/host", f"AuthorizedKeysFile {self.directory}/authorized", "StrictModes no",
            "PidFile none", f"UsePAM {'yes' if pam else 'no'}", "PasswordAuthentication no", "LogLevel ERROR",
            "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", f"AllowUsers {self.user.pw_name}",
            "PrintMotd no", "PrintLastLog no", "Subsystem sftp internal-sftp", f"SetEnv {self._environment()}",
        ]  # fmt: skip
        (self.directory / "config").write_text("\n".join(lines) + "\n")

    def _is_locked(self) -> bool:
        """Whether its password is, as those of cloud images are: sshd lets such a user in with PAM only."""
        lines = Path("/etc/shadow").read_text().splitlines() if Path("/etc/shadow").exists() else []
        return any(line.startswith(f"{self.user.pw_name}:!") for line in lines)

    @staticmethod
    def _environment() -> str:
        """Of the job, but for what a login has of its own and what a line of sshd_config cannot hold."""
        plain = {k: v for k, v in os.environ.items() if not OF_A_LOGIN.fullmatch(k) and not re.search(r'["\\\n\r]', v)}
        return " ".join(f'"{name}={value}"' for name, value in plain.items() if re.fullmatch(r"\w+", name))

    def serve(self, client: socket.socket) -> None:
        argv = [self.program, "-i", "-e", "-f", str(self.directory / "config")]
        if not self.trouble:
            subprocess.run(argv, stdin=client.fileno(), stdout=client.fileno())


class Jupyter:
    """Its server on a free port of 127.0.0.1. `trouble`: why there is none, "" for nothing."""

    def __init__(self, directory: Path) -> None:
        self.token, self.trouble, self.process = secrets.token_hex(24), "", None
        # The user's own, with what the user has on its path.
        theirs = shutil.which("python") or shutil.which("python3") or sys.executable
        found = "import importlib.util as u; print([m for m in ('jupyterlab', 'notebook') if u.find_spec(m)])"
        modules = re.findall(
            r"jupyterlab|notebook", subprocess.run([theirs, "-c", found], capture_output=True, text=True).stdout
        )
        if not modules:
            self.trouble = f"neither jupyterlab nor notebook can be imported by {theirs}"
            return
        self.port, log = free_port(), directory / "jupyter.log"
        argv = [theirs, "-m", modules[0], "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={Path.home()}"]  # fmt: skip
        with log.open("wb") as output:
            environment = {**os.environ, "JUPYTER_TOKEN": self.token}
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                said = log.read_text(errors="replace").replace(self.token, "***")[-2000:]
                self.trouble, self.process = f"{modules[0]} did not begin to listen: {said}", None
                return
            time.sleep(0.1)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def serve(self, client: socket.socket) -> None:
        if not self.trouble:
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                threading.Thread(target=carry, args=(client, server), daemon=True).start()
                carry(server, client)

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def carry(source: socket.socket, target: socket.socket) -> None:
    """All that one says, until it has nothing more to say."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
