"""What is piped into a command whose program has no standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ASK = "from clusterctl.cli.piped import refuse_input; refuse_input('clusterctl submit'); print('taken for nothing')"


def answer(stdin: object) -> str:
    done = subprocess.run([sys.executable, "-c", ASK], stdin=stdin, capture_output=True, text=True, timeout=120)  # type: ignore[call-overload]
    return done.stdout or done.stderr


def test_bytes_in_a_pipe_are_refused_and_an_open_or_ended_pipe_is_not() -> None:
    for content, end, refused in (
        (b"data", False, True),
        (b"data", True, True),
        (b"", False, False),
        (b"", True, False),
    ):
        ours, theirs = os.pipe()
        os.write(theirs, content)
        if end:
            os.close(theirs)
        said = answer(ours)
        assert ("what is piped into `clusterctl submit` does not reach the job" in said) == refused, (
            content,
            end,
            said,
        )
        os.close(ours)
        if not end:
            os.close(theirs)


def test_a_file_is_refused_from_its_beginning_and_is_the_rest_of_a_loop_later(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\nb\n")
    with (tmp_path / "list").open("rb", buffering=0) as file:
        assert "does not reach the job" in answer(file)
        file.read(2)
        assert "taken for nothing" in answer(file)
    assert "taken for nothing" in answer(subprocess.DEVNULL)
