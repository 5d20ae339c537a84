"""Runs on a host whose sshd forwards no ports (AllowTcpForwarding no): carries bytes between its own stdin and stdout and a
port of 127.0.0.1, whose number is the first line that it reads. Standard library only; sent whole."""

import io
import socket
import sys
import threading

PIECE = 1 << 16


def back(there: socket.socket) -> None:
    """Returns when the port has said all it had to say, after which stdout is closed."""
    while data := there.recv(PIECE):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    sys.stdout.buffer.close()


def main() -> None:
    """Returns when both sides have ended."""
    source = sys.stdin.buffer
    assert isinstance(source, io.BufferedReader)
    with socket.create_connection(("127.0.0.1", int(source.readline()))) as there:
        answers = threading.Thread(target=back, args=(there,))
        answers.start()
        while data := source.read1(PIECE):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)
        answers.join()


if __name__ == "__main__":
    main()
