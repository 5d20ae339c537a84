"""Homes and limits of a host's user with which nothing of ours could run: told before anything is sent there."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Hosts, Reached
from clusterctl.provision.ssh.inventory import Login, Machine
from clusterctl.provision.ssh.programs import host as host_program


def judged(*, head: bool = False, engine: bool = False, engine_python: str = "", **facts: Any) -> str:
    """What is told of a host with these facts; "" where it can serve."""
    good = {"clock": 0.0, "writable": True, "mounted": [], "processes_left": None, "disk_free": 2**40}
    machine = Machine("h", Login("h"), head=head)
    hosts = Hosts("demo", "0" * 32, [machine], Path("known"), print, engine=engine, engine_python=engine_python)
    try:
        hosts._judge(Reached(machine, facts={**good, **facts}), 0.0, 0.0)
    except HostTrouble as trouble:
        return str(trouble)
    return ""


def test_a_home_that_runs_no_programs_is_told_where_one_has_to_run_from_it() -> None:
    assert "mounted noexec and does not let programs run, as the head" in judged(head=True, mounted=["noexec"])
    assert "as Ray there has to" in judged(engine=True, mounted=["noexec"])
    assert judged(mounted=["noexec"]) == ""  # the agent is read by a Python that lies elsewhere
    assert judged(engine=True, engine_python="/opt/ray/bin/python", mounted=["noexec"]) == ""


def test_a_home_that_is_mounted_read_only_is_no_matter_of_its_mode() -> None:
    assert "mounted read-only" in judged(mounted=["ro"], writable=False)
    assert "mend its mode" in judged(writable=False)


def test_a_low_limit_of_processes_is_told_before_anything_fails_with_it() -> None:
    told = judged(processes_left=20)
    assert "may start 20 more processes and threads" in told and "ulimit -u" in told
    assert judged(processes_left=200) == "" and "at least 512" in judged(processes_left=200, engine=True)


def test_processes_are_counted_with_their_threads() -> None:
    code = "import sys, threading\nfor _ in range(50): threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
    code += "print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert host_program.count_processes(os.getuid()) > 50
        process.stdin.close()


def test_without_a_limit_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_program.os, "geteuid", lambda: 4_200_000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, 0))
    assert host_program.processes_left() is None
    monkeypatch.setattr(resource, "getrlimit", lambda which: (70, 70))
    assert host_program.processes_left() == 70
    monkeypatch.setattr(host_program.os, "geteuid", lambda: 0)
    assert host_program.processes_left() is None


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.EAGAIN, "ulimit -u"), (errno.EDQUOT, "quota"), (errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")],
)
def test_what_the_system_refuses_on_a_host_comes_with_its_fix(number: int, fix: str) -> None:
    told = host_program.in_words(OSError(number, os.strerror(number), "/home/me/x"))
    assert fix in told and "/home/me/x" in told and os.strerror(number) in told


def test_a_program_on_a_host_needs_no_directory_for_temporary_files() -> None:
    code = (
        "import sys; from clusterctl.provision.ssh.programs import host as host_program; from importlib import resources;"
        "source = resources.files('clusterctl_runtime.agent').joinpath('facts.py').read_bytes();"
        "print(host_program.load_facts(source).read_facts(__import__('pathlib').Path('/'))['system'])"
    )
    env = {**os.environ, "TMPDIR": "/proc/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd="/proc", capture_output=True, text=True)
    assert done.stdout.strip() == sys.platform, done.stderr
