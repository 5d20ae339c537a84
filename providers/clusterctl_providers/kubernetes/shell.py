"""`python -m clusterctl_providers.kubernetes.shell --context ... --pod ... -- COMMAND...`: a program in a pod at this terminal.

Ends with the program's own exit code, and with 255 and a sentence where the way there broke, as `ssh` does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence

from clusterctl.core.errors import ProviderError
from clusterctl_providers.kubernetes.channel import PLACE, Channel
from clusterctl_providers.kubernetes.login import log_in

BROKEN = 255
PIECE = 1 << 16
IN, OUT, ERROR = 0, 1, 2


def run(place: dict[str, str], command: Sequence[str]) -> int:
    """Its exit code. Raises ProviderError, OSError."""
    is_terminal = os.isatty(IN) and os.isatty(OUT)
    login = log_in(place)
    try:
        channel = login.open_session()
        channel.begin(command, tty=is_terminal)
        with _raw(channel) if is_terminal else contextlib.nullcontext():
            threading.Thread(target=_send, args=(channel,), daemon=True).start()
            errors = threading.Thread(target=_show, args=(channel.recv_stderr, ERROR), daemon=True)
            errors.start()
            _show(channel.recv, OUT)
            errors.join()
        code = channel.recv_exit_status()
        if code < 0:
            raise OSError(str(login.saved_exception or "the connection to the pod broke"))
        return code
    finally:
        login.close()


@contextlib.contextmanager
def _raw(channel: Channel) -> Iterator[None]:
    """Each key goes there as it is pressed, and its program knows how large this terminal is."""
    before, changed = termios.tcgetattr(IN), threading.Event()

    def tell_sizes() -> None:
        while True:
            changed.wait()
            changed.clear()
            size = os.get_terminal_size(OUT)
            channel.resize(size.columns, size.lines)

    was = signal.signal(signal.SIGWINCH, lambda *_: changed.set())
    try:
        changed.set()
        threading.Thread(target=tell_sizes, daemon=True).start()
        tty.setraw(IN)
        yield
    finally:
        termios.tcsetattr(IN, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, was)


def _send(channel: Channel) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(IN, PIECE):
            channel.sendall(data)
        channel.shutdown_write()


def _show(read: Callable[[int], bytes], descriptor: int) -> None:
    while data := read(PIECE):
        _write(descriptor, data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """Ends with the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.kubernetes.shell", description="A program in a pod."
    )
    for name in PLACE:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("command", nargs="+")
    given = vars(parser.parse_args())
    try:
        code = run({name: given[name] for name in PLACE}, given["command"])
    except (ProviderError, OSError) as error:
        print(error, file=sys.stderr)
        code = BROKEN
    os._exit(code)  # a thread may still wait for a key


if __name__ == "__main__":
    main()
