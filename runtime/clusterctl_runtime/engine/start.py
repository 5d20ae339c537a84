"""`ray start --block`, run under the engine's Python by path: the same command, with a shorter way in and out.

Arguments are those of `ray start`. What differs from the plain command:
- the command lines of Serve, Jobs and State are not imported, which `ray` only lists in its help: over a second of CPU time;
- stdout carries one JSON object a line (ready, dashboard, died, gcs_restarted); what Ray prints goes to stderr;
- it ends when its stdin does, so that no raylet outlives the agent that supervises it;
- a raylet that drained and ended well ends this process too (`ray start --block` would wait for ever);
- a GCS that keeps its state on disk is started again beside the running raylet when it dies: nobody loses anything;
- 127.0.0.1 stays 127.0.0.1, and then nothing listens on other addresses (the plain command takes the machine's own);
- the raylet does not wait for the dashboard's agent: it is told that agent's port, and its workers which cluster is theirs;
- on the head, nothing waits for the dashboard, whose temporary directories go with the node, and there is no Ray Client server;
- what shows the output of Ray's workers to drivers starts when the node is up.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

NOT_NEEDED = ("ray.serve.scripts", "ray.dashboard.modules.job.cli", "ray.util.state.state_cli")
POLL_SECONDS = 0.1
END_SECONDS = 5.0  # from the end of the agent to that of everything here, by force if need be
GCS_WAIT_SECONDS = 120.0
GCS_RESTARTS, GCS_WINDOW_SECONDS = 5, 300.0
WATCHED = ("raylet", "gcs_server")
LISTEN_PORT = "--dashboard-agent-listen-port"


class Announcer:
    """Owns the real stdout; everything else of this process and its children writes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def end_with_stdin() -> None:
    """Watches a private copy of stdin: its end is the end of the agent."""
    private = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        while os.read(private, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        # Ray's own way out may hang, where the signal found it in the middle of starting something.
        time.sleep(END_SECONDS)
        if os.getpgrp() == os.getpid():  # else it is not ours alone
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="stdin").start()


def wait_for_head(address: str) -> None:
    """A worker may be started before Ray's head is up: by then Ray is imported here. Ray's own wait is 20 s of retries."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + GCS_WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            if _has_head(address):
                return
        except OSError:
            pass
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"no GCS with a head node answered at {address} within {GCS_WAIT_SECONDS:.0f} s")


def _has_head(address: str) -> bool:
    """A GCS listens before its head's raylet has registered there, which is where a worker learns of the session."""
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
    from ray.exceptions import RayError

    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=2.0).values()
    except RayError as error:
        raise ConnectionError(str(error)) from error
    return any(node.is_head_node and node.state == node.ALIVE for node in nodes)


def announcing(base: type, announcer: Announcer) -> type:
    """Ray's Node, which says when it is up and ends this process when its raylet or GCS has ended."""

    class AnnouncingNode(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.all_processes = {}
            self._delayed: dict[str, Any] = {}
            self._up = False
            self._gcs_deaths: list[float] = []
            threading.Thread(target=self._watch, daemon=True, name="watch").start()
            super().__init__(*args, **kwargs)
            import ray

            announcer.say(
                event="ready",
                ray_node_id=self._node_id,
                address=self.gcs_address,
                dashboard=self.webui_url or "",
                session_dir=self.get_session_dir_path(),
                version=ray.__version__,
                python_version=platform.python_version(),
            )
            self._up = True
            super().start_log_monitor()

        def start_log_monitor(self) -> None:
            """Put off until the node is up: it reads what was written before, too."""

        def start_api_server(self, **kwargs: Any) -> None:
            """Called before the raylet is started, and waits for the dashboard, which the node can do without for a while."""
            self._delayed = kwargs
            self._webui_url = f"{self._ray_params.dashboard_host}:{self._ray_params.dashboard_port}"

        def start_ray_processes(self) -> None:
            super().start_ray_processes()
            if self._delayed:
                threading.Thread(target=self._start_dashboard, daemon=True, name="dashboard").start()

        def _start_dashboard(self) -> None:
            """Nothing waits for it. The thread stays: Linux ends what it started when it ends itself (PR_SET_PDEATHSIG)."""
            try:
                self._forget_last_dashboard()
                super().start_api_server(**self._delayed)
                failure = "" if self.webui_url else "it gave no address"
            except Exception as error:
                failure = str(error) or type(error).__name__
            announcer.say(event="dashboard", failure=failure)
            threading.Event().wait()

        def _forget_last_dashboard(self) -> None:
            """A GCS that kept its state also kept where the dashboard was before: Ray would take that for an answer."""
            from ray._private import ray_constants

            key, namespace = ray_constants.DASHBOARD_ADDRESS, ray_constants.KV_NAMESPACE_DASHBOARD
            self.get_gcs_client().internal_kv_del(key.encode() if isinstance(key, str) else key, False, namespace)

        def dead_processes(self) -> list[Any]:
            """What `ray start` ends everything for; two of them are judged by `_watch`."""
            return [(kind, process) for kind, process in super().dead_processes() if kind not in WATCHED]

        def _watch(self) -> None:
            while True:
                time.sleep(POLL_SECONDS)
                for kind in WATCHED:
                    for info in list(self.all_processes.get(kind, ())):
                        code = info.process.poll()
                        if code is not None:
                            self._ended(kind, code)

        def _ended(self, kind: str, code: int) -> None:
            if kind == "gcs_server" and self._may_restart_gcs():
                self.kill_gcs_server(check_alive=False)
                self.start_gcs_server()
                announcer.say(event="gcs_restarted", code=code)
                return
            announcer.say(event="died", process=kind, code=code)
            self.kill_all_processes(check_alive=False, allow_graceful=False)
            os._exit(0 if code == 0 else 1)

        def _may_restart_gcs(self) -> bool:
            now = time.monotonic()
            self._gcs_deaths = [at for at in self._gcs_deaths if now - at < GCS_WINDOW_SECONDS] + [now]
            kept = os.environ.get("RAY_gcs_storage") == "rocksdb"  # noqa: SIM112  Ray's spelling
            return self._up and kept and len(self._gcs_deaths) <= GCS_RESTARTS

    return AnnouncingNode


def telling(start: Callable[..., Any], port: str, temp_dir: str) -> Callable[..., Any]:
    """Ray's starter of processes.

    The dashboard's own processes speak through sockets in directories that stay behind when they are killed: these lie in Ray's
    directory, which goes with the node. A raylet that is not told where the dashboard's agent will listen asks that agent, and
    joins its cluster only when it is up, seconds later; Ray itself does not hand the port on. And its workers, which inherit its
    environment, are told which cluster is theirs: what asks for one by itself (the state API, Train when it cleans up) would
    look for any Ray of this machine."""

    def starting(command: list[str], process_type: str, *args: Any, **kwargs: Any) -> Any:
        updates = dict(kwargs.pop("env_updates", None) or {})
        if process_type == "dashboard" and temp_dir:
            updates["TMPDIR"] = temp_dir
        if process_type != "raylet":
            return start(command, process_type, *args, env_updates=updates, **kwargs)
        told = [f"--dashboard_agent_listen_port={port}", "--undefok=dashboard_agent_listen_port"]
        address = next((word.partition("=")[2] for word in command if word.startswith("--gcs-address=")), "")
        updates |= {"RAY_ADDRESS": address} if address else {}
        return start([*command, *told], process_type, *args, env_updates=updates, **kwargs)

    return starting


def without_client_server(ray_params: Any, head: bool) -> None:
    """Ray's start hook. `ray://` clients are not offered: drivers run on the cluster, under a lease of the queue."""
    os.environ.pop("RAY_START_HOOK", None)
    ray_params.ray_client_server_port = None


def main(arguments: list[str]) -> None:
    """`ray start` with these arguments, changed as the module says; ends as it does, in SystemExit."""
    announcer = Announcer()
    end_with_stdin()
    for name in NOT_NEEDED:
        sys.modules[name] = None  # type: ignore[assignment]  # makes their import fail, which `ray start` expects and ignores
    sys.modules["clusterctl_engine_start"] = sys.modules[__name__]
    import ray._private.node as node_module
    import ray._private.ray_constants as ray_constants
    import ray._private.services as services
    from ray.scripts import scripts

    services.resolve_ip_for_localhost = lambda host: host
    ray_constants.ENABLE_RAY_CLUSTER = (
        True  # on macOS too, where several raylets on 127.0.0.1 serve for trying things out
    )
    node_module.Node = announcing(node_module.Node, announcer)
    os.environ["RAY_START_HOOK"] = "clusterctl_engine_start.without_client_server"
    given = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    port, temp_dir = given.get(LISTEN_PORT, "0"), given.get("--temp-dir", "")
    services.start_ray_process = telling(services.start_ray_process, port, temp_dir)
    if "--address" in given:
        wait_for_head(given["--address"])
    scripts.start.main(args=arguments, standalone_mode=True)


if __name__ == "__main__":
    main(sys.argv[1:])
