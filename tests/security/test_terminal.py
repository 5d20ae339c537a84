"""What programs and users write cannot command the terminal of whoever looks at it: every view, on a real one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata

import pytest

from tests.security.knocking import Api
from tests.support.cluster import LocalCluster

HARMFUL = (
    "\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\"
    "\x1b[2J\x9b2J\x1bP+q544e\x1b\\\u202egpj.exe\u2066\u2028\u200bfine\rover\b\b"
)


@pytest.fixture(scope="module")
def hostile(cluster: LocalCluster) -> str:
    """A job whose name, user, arguments and output are harmful; its id."""
    api = Api(cluster)
    job = api.run(argv=["printf", "%s\\nEND\\n", HARMFUL], name=HARMFUL, user=HARMFUL[:60])
    assert job["state"] == "succeeded"
    waiting = api.submit(argv=[HARMFUL], name=HARMFUL, pool="cpu", cpus=10_000)
    assert waiting
    return job["id"]


def on_a_terminal(cluster: LocalCluster, *arguments: str) -> str:
    """What a command writes to a terminal, errors included."""
    master, slave = pty.openpty()
    environment = {**cluster.env, "TERM": "xterm-256color", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "clusterctl", *arguments],
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cluster.directory,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(60) in (0, 2, 3), shown
    return shown.decode()


VIEWS = (
    "jobs",
    "job show JOB",
    "logs JOB",
    "events",
    "status",
    "explain JOB",
    "nodes",
    "node show cpu-1",
    "job show \x1b]0;x\x07",
)


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_lets_a_program_command_the_terminal(cluster: LocalCluster, hostile: str, view: str) -> None:
    shown = on_a_terminal(cluster, *view.replace("JOB", hostile).split(" "))
    assert len(shown) > 20
    ours = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
    bad = {c for c in ours if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cf")}
    assert not bad, ours
    if view == "logs JOB":
        assert "END" in ours and "\\x1b]52" in ours


def test_machines_get_one_record_a_line_and_the_heads_log_no_control_characters(
    cluster: LocalCluster, hostile: str
) -> None:
    following = cluster.start("events", "-f", "--json", "--since", "0")
    assert following.stdout is not None
    try:
        events = [json.loads(following.stdout.readline()) for _ in range(5)]
    finally:
        following.kill()
        following.communicate()
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert any(hostile == event["subject"] for event in cluster.json("events")["events"])
    log = (cluster.head_dir / "head.log").read_text()
    assert "\x1b" not in log and "\x9b" not in log
