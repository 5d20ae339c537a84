"""A kubelet for nodes that are only objects: it says of bound pods what a kubelet would, and runs them as a test wants.

    with Kubelet(plane, namespace, start) as kubelet: ...

`start(pod)` gives the pod's process (a `subprocess.Popen` will do) or None for one that runs until it is deleted. As with the
real one: a pod that is deleted is sent SIGTERM, killed after its grace period, and only then gone; a process that ends leaves its
pod Succeeded or Failed, or is started again where restartPolicy wants that.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from tests.support.kubernetes import says
from tests.support.kubernetes.api import ApiError, Object, Watch
from tests.support.kubernetes.plane import ControlPlane

TERMINATED = 143


class Process(Protocol):
    """As subprocess.Popen has it."""

    def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class CannotStart(Exception):
    """Raised by `start`: the container waits for this `reason` (ErrImagePull, CreateContainerConfigError ...)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Idle:
    """A process that is none: it runs until somebody ends it."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._code = 0

    def wait(self) -> int:
        self._over.wait()
        return self._code

    def end(self, code: int) -> None:
        if not self._over.is_set():
            self._code = code
            self._over.set()

    def terminate(self) -> None:
        self.end(TERMINATED)

    def kill(self) -> None:
        self.end(137)


def nothing(pod: Object) -> Process | None:
    return None


class Served:
    """One pod that a kubelet has taken on."""

    def __init__(self, pod: Object) -> None:
        self.pod = pod
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"]["uid"]
        self.process: Process = Idle()
        self.deleted = threading.Event()
        self.evicted = ""  # the message
        self.restarts = 0

    def delete(self, grace: float) -> None:
        """Asks its process to end, and kills it after `grace` seconds."""
        first = not self.deleted.is_set()
        self.deleted.set()
        if grace <= 0:
            self.process.kill()
        elif first:
            self.process.terminate()
            killer = threading.Timer(grace, self.process.kill)
            killer.daemon = True
            killer.start()

    def is_restarted_after(self, code: int) -> bool:
        policy = self.pod["spec"]["restartPolicy"]
        return not self.evicted and (policy == "Always" or (policy == "OnFailure" and code != 0))


class Kubelet:
    """Of the pods of one namespace. What `start` raises besides CannotStart is raised again at the end."""

    def __init__(
        self, plane: ControlPlane, namespace: str, start: Callable[[Object], Process | None] = nothing
    ) -> None:
        self._api, self._start = plane.api, start
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._served: dict[str, Served] = {}  # by the pod's uid
        self._faults: list[BaseException] = []
        self._stopped = False
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._follow, name="kubelet", daemon=True)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kills what it runs, and says nothing of it any more."""
        self._stopped = True
        if self._watch is not None:
            self._watch.close()
        self._thread.join(60)
        for served in self._served.values():
            served.delete(grace=0)
        if self._faults and kind is None:
            raise self._faults[0]

    def end(self, name: str, code: int) -> None:
        """The container of a pod that has no process ends with this exit code."""
        process = self._of(name).process
        assert isinstance(process, Idle), f"{name} has a process of its own"
        process.end(code)

    def evict(self, name: str, message: str) -> None:
        """As for want of memory or disk: the pod fails, and its process is killed."""
        served = self._of(name)
        served.evicted = message
        served.process.kill()

    def _of(self, name: str) -> Served:
        return next(served for served in self._served.values() if served.name == name and not served.deleted.is_set())

    # ------------------------------------------------------------ all pods

    def _follow(self) -> None:
        try:
            while not self._stopped:
                listed = self._api.get(self._pods)
                for pod in listed["items"]:
                    self._see(pod)
                self._watch = self._api.watch(self._pods, resourceVersion=listed["metadata"]["resourceVersion"])
                for change, pod in () if self._stopped else self._watch:
                    if change == "ERROR":
                        break
                    self._see(pod, gone=change == "DELETED")
        except BaseException as error:
            self._faults.append(error)

    def _see(self, pod: Object, *, gone: bool = False) -> None:
        metadata = pod["metadata"]
        served = self._served.get(metadata["uid"])
        if served is None and not gone and "nodeName" in pod["spec"]:
            served = self._served[metadata["uid"]] = Served(pod)
            threading.Thread(target=self._serve, args=(served,), name=served.name, daemon=True).start()
        if served is not None and (gone or "deletionTimestamp" in metadata):
            served.delete(0 if gone else metadata["deletionGracePeriodSeconds"])

    # ------------------------------------------------------------ one pod, in a thread of its own

    def _serve(self, served: Served) -> None:
        try:
            code = self._run(served)
            while not served.deleted.is_set() and served.is_restarted_after(code):
                served.restarts += 1
                code = self._run(served)
            if not served.deleted.is_set():
                self._say(served, says.ended(served.pod, code, served.restarts, served.evicted))
                served.deleted.wait()
            if not self._stopped:
                self._let_go(served)
        except BaseException as error:
            self._faults.append(error)

    def _run(self, served: Served) -> int:
        """Its exit code."""
        if served.deleted.is_set():
            return TERMINATED
        try:
            served.process = self._start(served.pod) or Idle()
        except CannotStart as error:
            self._say(served, says.waiting(served.pod, error.reason, error.message))
            served.deleted.wait()
            return TERMINATED
        if served.deleted.is_set():  # just now: there was no process to tell
            served.process.kill()
        else:
            self._say(served, says.running(served.pod, served.restarts))
        return served.process.wait()

    def _say(self, served: Served, status: Object) -> None:
        with contextlib.suppress(ApiError):  # deleted meanwhile
            self._api.patch(f"{self._pods}/{served.name}/status", {"metadata": {"uid": served.uid}, "status": status})

    def _let_go(self, served: Served) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": served.uid}}
        with contextlib.suppress(ApiError):  # gone already
            self._api.delete(f"{self._pods}/{served.name}", options)
