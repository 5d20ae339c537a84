"""What the user's SSH configuration says of a host, in OpenSSH's own words: `ssh -G`.

OpenSSH itself reads its files, with all that they may have: Include, Match (exec, too), CanonicalizeHostname, tokens, and
the machine's own file. `ssh -G` leaves "~" and most %-words as they are; they are filled in here.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from clusterctl_providers.this_machine import user_name

from clusterctl.core.errors import UsageError

SYSTEM = Path("/etc/ssh/ssh_config")
SECONDS = 30.0  # Match exec runs programs
Words = Mapping[str, list[str]]  # option in lower case -> its values, one for each line


class Configuration:
    """`path`: the file that the spec names instead of ~/.ssh/config. Thread-safe."""

    def __init__(self, path: str = "") -> None:
        self.file = Path(path or "~/.ssh/config").expanduser()
        if path and not self.file.is_file():
            raise UsageError(
                f"the SSH configuration {self.file} cannot be read: check `provider: {{ssh: {{config: ...}}}}`"
            )
        self.options = self._options(bool(path))
        self._known: dict[tuple[str, str, int], Words] = {}
        self._lock = threading.Lock()

    def _options(self, named: bool) -> list[str]:
        """What OpenSSH's programs are to be given. It asks the password database for the home, and not $HOME."""
        if named or _home() != _own_home():
            return ["-F", str(self.file) if self.file.is_file() else "none"]
        return []

    def lookup(self, host: str, user: str = "", port: int = 0) -> Words:
        """All options that hold for `host`; `user` and `port` are what the spec says. Empty where there is no configuration.
        Raises UsageError."""
        key = (host, user, port)
        with self._lock:
            if key in self._known:
                return self._known[key]
        if not self.file.is_file() and (self.options or not SYSTEM.is_file()):
            return {}
        found = self._ask(host, user, port)
        with self._lock:
            self._known[key] = found
        return found

    def _ask(self, host: str, user: str, port: int) -> Words:
        ssh = shutil.which("ssh")
        if ssh is None:
            if not self.file.is_file():
                return {}
            raise UsageError(
                f"{self.file} cannot be understood without OpenSSH's own program: install it (apt install openssh-client), or "
                "remove that file and write the logins into the spec"
            )
        given = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
        argv = [ssh, "-G", *self.options, *given, "--", host]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"`ssh -G {host}`, which reads the SSH configuration, did not end: {error}") from error
        if done.returncode:
            said = "; ".join(line for line in done.stderr.splitlines() if "seudo-terminal" not in line)
            raise UsageError(f"the SSH configuration {self.file} cannot be understood: {said or done.returncode}")
        found: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            name, _, value = line.partition(" ")
            found.setdefault(name.lower(), []).append(value.strip())
        return found


def fill_in(text: str, *, given: str, host: str, port: int, user: str) -> str:
    """The %-words of ssh_config(5)."""
    words = {
        "%": "%",
        "h": host,
        "n": given,
        "k": given,
        "p": str(port),
        "r": user,
        "u": user_name(),
        "d": _home(),
        "i": str(os.getuid()),
        "l": socket.gethostname(),
        "L": socket.gethostname().partition(".")[0],
    }
    return re.sub(r"%(.)", lambda word: words.get(word.group(1), word.group()), text)


def command_line(words: Iterable[str]) -> str:
    """`words` for the shell that runs a ProxyCommand. OpenSSH looks for quotes in it before that shell does, by rules of its own
    (a backslash counts between single quotes, too); paramiko splits it with `shlex`. This means the same to all three."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if shlex.quote(word) == word:
        return word
    runs = re.findall(r"[\\']+|[^\\']+", word)
    return "".join(f'"{run}"'.replace("\\", "\\\\") if run[0] in "\\'" else f"'{run}'" for run in runs) or "''"


def as_text(text: str) -> str:
    """`text` as the value of an option that goes on to the end of its line, such as ProxyCommand: OpenSSH expands %-words."""
    return text.replace("%", "%%")


def as_word(text: str) -> str:
    """`text` as one word of an option that is a list of paths, such as IdentityFile. Raises UsageError."""
    if "${" in text:  # a variable, and there is no way to write it otherwise
        raise UsageError(f"OpenSSH cannot be told of the path {text!r}, which has '${{' in it: use one without")
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{as_text(quoted)}"'


def in_home(path: str) -> str:
    """OpenSSH's defaults are below the home of the password database; ours is $HOME."""
    own = f"{_own_home()}/.ssh/"
    return f"{_home()}/.ssh/{path[len(own) :]}" if path.startswith(own) else path


def _home() -> str:
    return str(Path.home())


def _own_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""  # a number without a name: OpenSSH itself will say that it knows no such user
