"""The head daemon as a process of this machine: start it, wait until it listens, end it.

`up` starts a supervisor in a session of its own, which keeps the head alive. Both are known by their pid files, and a pid
is believed only when its command line names the cluster's directory: pids are used again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.full_disk import full_disk
from clusterctl.client.head.api import Api
from clusterctl.client.processes import arguments_of, is_running
from clusterctl.client.registry import Cluster, read_note
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision import isolated

SUPERVISOR, HEAD = "clusterctl_runtime.head.supervisor", "clusterctl_runtime.head"
START_SECONDS = 60.0
END_SECONDS = 15.0
_LOOK = 0.02  # seconds between two looks at a file


def answers(cluster: Cluster) -> bool:
    """Whether the head of this very cluster answers now."""
    try:
        with Api.of(cluster) as api:
            return api.get("/healthz").get("uid") == cluster.uid
    except ClusterctlError:
        return False


def supervisor_pid(cluster: Cluster) -> int:
    """The pid of the running supervisor, or 0."""
    return _live_pid(cluster, "supervisor.pid")


def head_pid(cluster: Cluster) -> int:
    """The pid of the running head, or 0."""
    if _note_is_damaged(cluster):
        return _found(HEAD, cluster.head_dir)
    pid = int(cluster.read_head().get("pid") or 0)
    return pid if _is_ours(pid, cluster.head_dir) else 0


def is_out_of_reach(cluster: Cluster) -> bool:
    """Whether a file was lost or damaged without which nobody speaks to a head on this machine, even if it runs."""
    return _note_is_damaged(cluster) or not read_note(cluster.client_file).get("token")


def _note_is_damaged(cluster: Cluster) -> bool:
    return (cluster.head_dir / "head.json").exists() and not cluster.read_head().get("pid")


def start(cluster: Cluster) -> None:
    """Sees to it that a head answers: starts the supervisor unless one runs, and waits until the head listens. Raises
    ClusterctlError with the end of its log when it does not."""
    process = None
    failure = cluster.head_dir / "head.error"  # what kept a head from starting, in a sentence
    failure.unlink(missing_ok=True)
    if not supervisor_pid(cluster):
        if full := full_disk([cluster.head_dir]):  # it would be started again and again
            raise ClusterctlError(f"the head of cluster {cluster.name!r} cannot start: {full}")
        (cluster.head_dir / "head.json").unlink(missing_ok=True)  # of a head that died
        process = _spawn(cluster)
    deadline = time.monotonic() + START_SECONDS
    while not answers(cluster):
        if process is not None and process.poll() is not None and not supervisor_pid(cluster):
            raise ClusterctlError(_did_not_start(cluster, f"ended with code {process.returncode}"))
        if failure.exists():
            raise ClusterctlError(failure.read_text())
        if time.monotonic() > deadline:
            raise ClusterctlError(_did_not_start(cluster, f"does not listen after {START_SECONDS:.0f} s"))
        time.sleep(_LOOK)


def _spawn(cluster: Cluster) -> subprocess.Popen[bytes]:
    # The head rotates head.log itself; what it cannot write there, a traceback at the start or the end, comes here.
    log = os.open(cluster.head_dir / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            [*isolated.module(SUPERVISOR), str(cluster.head_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=cluster.head_dir,
            start_new_session=True,  # it outlives this shell, and its Ctrl-C
        )
    finally:
        os.close(log)


def _did_not_start(cluster: Cluster, what: str) -> str:
    ends = [
        f"The end of {path}:\n{_tail(path)}"
        for path in (cluster.head_dir / "supervisor.log", cluster.head_dir / "head.log")
    ]
    return "\n".join(
        [f"the head of cluster {cluster.name!r} {what}.", *filter(None, [full_disk([cluster.head_dir])]), *ends]
    )


def _tail(path: Path, size: int = 2000) -> str:
    try:
        text = path.read_bytes()[-size:].decode(errors="replace").strip()
    except OSError as error:
        return f"  ({error.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()) or "  (it is empty)"


def stop(cluster: Cluster, *, grace: float = END_SECONDS) -> None:
    """Ends supervisor and head, the supervisor first so that it starts no other. Returns when neither is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for find in (supervisor_pid, head_pid):
            pid = find(cluster)
            if pid:
                _signal(pid, number)
                wait_until(lambda pid=pid: not is_running(pid), Backoff(_LOOK, _LOOK, seconds=grace))
    left = [pid for pid in (supervisor_pid(cluster), head_pid(cluster)) if pid]
    if left:
        raise ClusterctlError(
            f"the head of cluster {cluster.name!r} (process {left[0]}) cannot be ended: end it by hand"
        )


def wait_for_end(cluster: Cluster, seconds: float = END_SECONDS) -> bool:
    """Whether supervisor and head have both ended by themselves within `seconds`."""
    return wait_until(
        lambda: not supervisor_pid(cluster) and not head_pid(cluster), Backoff(_LOOK, _LOOK, seconds=seconds)
    )


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ClusterctlError(f"process {pid} cannot be ended: it belongs to another user") from error


def _live_pid(cluster: Cluster, name: str) -> int:
    try:
        pid = int((cluster.head_dir / name).read_text())
    except OSError:
        return 0
    except ValueError:  # damaged
        return _found(SUPERVISOR, cluster.head_dir)
    return pid if _is_ours(pid, cluster.head_dir) else 0


def _found(module: str, directory: Path) -> int:
    """The process that runs a module of ours for that directory, by all command lines of this machine; 0 for none."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if [module, str(directory)] == (process.info["cmdline"] or [])[-2:]:
            return process.pid
    return 0


def _is_ours(pid: int, directory: Path) -> bool:
    return is_running(pid) and os.fsencode(directory) in arguments_of(pid)
