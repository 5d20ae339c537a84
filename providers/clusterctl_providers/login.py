"""What a provider needs to have that lets programs be begun on its machines without SSH: `open_login` finds it by name.

    log_in(place) -> a login                 of `clusterctl_providers.NAME.login`; `place` says where, in the provider's own words
    login.open_session() -> a channel        one program each, with its stdin, stdout and stderr

A place is kept in files, and so has names only: no address that changes, and no secret.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast


class ProgramChannel(Protocol):
    """One program there, as paramiko's channel has it. What breaks raises OSError or EOFError; what the provider refuses,
    ProviderError."""

    def exec_command(self, command: str, /) -> None:
        """Once: begins it through the machine's `sh`."""
        ...

    def settimeout(self, seconds: float | None, /) -> None: ...

    def recv(self, size: int, /) -> bytes:
        """b"" at the end of its stdout; TimeoutError after so many seconds of silence."""
        ...

    def recv_stderr(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown_write(self) -> None:
        """The end of its stdin, where the way there can tell of it: no program of ours may need that."""
        ...

    def recv_exit_status(self) -> int:
        """-1 where the way ended before the program did."""
        ...

    def get_transport(self) -> MachineLogin: ...

    def close(self) -> None: ...


class MachineLogin(Protocol):
    """A machine that was found, and on which programs may be begun; thread-safe."""

    saved_exception: Exception | None  # why the last channel that broke did

    def is_active(self) -> bool: ...

    def open_session(self, timeout: float | None = None) -> ProgramChannel: ...

    def shell_argv(self, command: Sequence[str]) -> list[str]:
        """What to run here to have `command` there at this terminal."""
        ...

    def close(self) -> None: ...


def open_login(provider: str, place: Mapping[str, str]) -> MachineLogin:
    """A login to a machine of that provider. Raises ProviderError where there is none, or it does not run."""
    module = importlib.import_module(f"clusterctl_providers.{provider}.login")
    return cast(MachineLogin, module.log_in(place))
