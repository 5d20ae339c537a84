"""Runs under the engine's Python, by path, beside the head: the only user of Ray's private interfaces to cluster state.

One JSON object a line. In: {"id", "do": "resize" | "drain" | "hold_gpus" | "release" | "holds" | "report" | "who" | "users" |
"forget_requests" | "jobs" | "http" | "package" | "drop_package", ...}.
Out: {"t": "state", ...} whenever what Ray tells has changed (asked every 100 ms), {"t": "reply", "id", ...},
{"t": "lost", "message"} while the GCS does not answer; {"t": "unsupported", "message"}, and then the end, when this Ray speaks
otherwise.

The address and the token come from the environment (CLUSTERCTL_GCS, RAY_AUTH_TOKEN_PATH). It ends with its stdin.
"""

import base64
import json
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

POLL_SECONDS = 0.1
CALL_SECONDS = 5.0
DRAIN_CONFIRM_SECONDS = 5.0
HOLD_SECONDS = 15.0
TOLD_SECONDS = 5.0
DRIVERS_SECONDS = 2.0  # between two looks at who runs, and only while `request_resources` is in force
SPARING = 20  # and at least so many times as long as such a look took
MOST_TASKS, MOST_ACTORS = 2000, 10_000  # that one answer to "who" or "users" is made from
MOST_JOBS = 100
PACKAGE_SECONDS = 60.0  # for the GCS to take one
PINNED_SECONDS = 10 * 365 * 24 * 3600  # Ray forgets a package that nothing uses at the moment, unless it is pinned
NAMESPACE = "clusterctl"  # of what is ours in Ray
SUBMITTED = b"_ray_internal_job_info_"  # how the keys begin under which Ray keeps what was submitted to it
STATES = {
    "PENDING": "queued", "RUNNING": "running", "SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "cancelled"
}  # fmt: skip
HOLD = "hold:"  # how the names of actors begin that hold GPUs
OURS = "clusterctl_helper"  # in the metadata of this process' own job, once it is a driver
TASK = "clusterctl_task"  # in that of our jobs' drivers
INTERNAL = "_ray_internal"  # how the namespaces of Ray's own drivers begin
IDLE_TERMINATION, PREEMPTION = 1, 2
NORMAL_TASK = 0
PENDING_CREATION, ALIVE, RESTARTING = 1, 2, 3  # of actors
PENDING, REMOVED, RESCHEDULING = 0, 3, 4  # of placement groups
STATUS = {1: "RUNNING", 2: "DEAD", 3: "IDLE", 4: "DRAINING"}
NEEDED = (
    "get_cluster_resource_state",
    "drain_node",
    "resize_raylet_resource_instances",
    "report_autoscaling_state",
    "get_all_job_info",
)
_OUT = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever Ray prints is no protocol
_OUT_LOCK = threading.Lock()


class Unsupported(Exception):
    """This Ray lacks an interface that we need, or answers in a shape we do not know."""


class Refused(Exception):
    """What was asked is not possible now; the message is the answer."""


def say(message):
    """One line of the protocol, from any thread."""
    with _OUT_LOCK:
        _OUT.write(json.dumps(message, separators=(",", ":")) + "\n")
        _OUT.flush()


class Gcs:
    """The cluster state of the GCS as plain data. Node ids are hex strings throughout: `drain_node` takes nothing else."""

    def __init__(self, address):
        try:
            import ray
            from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
            from ray.core.generated import autoscaler_pb2
        except ImportError as error:
            raise Unsupported(f"this Ray lacks an interface that demand is read through ({error})") from error
        self.version = ray.__version__
        self._pb: Any = autoscaler_pb2
        self._by_piece = {"GPU"}
        self._client = GcsClient(address=address)
        missing = [name for name in NEEDED if not hasattr(self._client, name)]
        if missing:
            raise Unsupported(f"Ray {self.version} has no {', '.join(missing)}")

    def state(self):
        """Sorted, so that what has not changed looks the same. Raises Unsupported, or Ray's own error where the GCS is silent."""
        reply = self._pb.GetClusterResourceStateReply()
        reply.ParseFromString(self._client.get_cluster_resource_state(timeout_s=CALL_SECONDS))
        try:
            return self._plain(reply.cluster_resource_state)
        except AttributeError as error:
            raise Unsupported(f"Ray {self.version} describes its state in another shape ({error})") from error

    def _plain(self, state):
        return {
            "nodes": sorted((_node(n) for n in state.node_states), key=lambda n: n["id"]),
            "tasks": _counted(state.pending_resource_requests),
            "gangs": sorted((_gang(g) for g in state.pending_gang_resource_requests), key=json.dumps),
            "requests": [e for c in state.cluster_resource_constraints for e in _counted(c.resource_requests)],
        }

    def drain(self, node_id, reason, message, deadline_ms):
        """(accepted, why not). `deadline_ms` in unix milliseconds, 0 for none. A node that Ray does not know is accepted, too."""
        return self._client.drain_node(node_id, reason, message, deadline_ms, timeout=CALL_SECONDS)

    def resize(self, node_id, resources):
        """Totals in force. What Ray hands out by the piece (GPU, TPU ...) cannot be resized: it is left out, and learned."""
        while True:
            asked = {name: amount for name, amount in resources.items() if name not in self._by_piece}
            try:
                return dict(self._client.resize_raylet_resource_instances(node_id, asked, timeout_s=CALL_SECONDS))
            except Exception as error:
                refused = next((n for n in asked if f"unit instance resource '{n}'" in str(error)), None)
                if refused is None:
                    raise
                self._by_piece.add(refused)

    def report(self, pending, failed):
        """`ray status` shows these. The version of the state seen stays 0: a GCS crashes on one that it has not reached."""
        state = self._pb.AutoscalingState(autoscaler_state_version=time.time_ns() // 1_000_000)
        for entry in pending:
            state.pending_instances.add(**entry)
        for entry in failed:
            state.failed_instance_requests.add(**entry)
        self._client.report_autoscaling_state(state.SerializeToString(), timeout_s=CALL_SECONDS)

    def own_jobs(self):
        """Ray's own jobs, newest first: those of `ray job submit`, and drivers that are of no job of the queue."""
        keys = self._client.internal_kv_keys(SUBMITTED, namespace=b"job", timeout=CALL_SECONDS)
        values = self._client.internal_kv_multi_get(keys, namespace=b"job", timeout=CALL_SECONDS) if keys else {}
        rows = [_submitted(key[len(SUBMITTED) :].decode(), json.loads(value)) for key, value in values.items()]
        rows += [_driver(job) for job in self._job_table() if _is_by_hand(job.config)]
        return sorted(rows, key=lambda row: (row["submitted"] or 0.0, row["id"]), reverse=True)

    def clear_requests(self):
        """Forgets what drivers asked for with `request_resources`."""
        self._client.request_cluster_resource_constraint([], [], [], timeout_s=CALL_SECONDS)

    def has_package(self, uri):
        """Whether the GCS has it; if so it will not go by itself."""
        found = self._client.internal_kv_exists(uri.encode(), None, timeout=CALL_SECONDS)
        if found:
            self._client.pin_runtime_env_uri(uri, PINNED_SECONDS, timeout=CALL_SECONDS)
        return bool(found)

    def put_package(self, uri, data):
        """A zip archive that nodes can have as a `working_dir`, until it is dropped."""
        self._client.internal_kv_put(uri.encode(), data, True, None, timeout=PACKAGE_SECONDS)
        self._client.pin_runtime_env_uri(uri, PINNED_SECONDS, timeout=CALL_SECONDS)

    def drop_package(self, uri):
        self._client.internal_kv_del(uri.encode(), False, None, timeout=CALL_SECONDS)

    def drivers(self):
        """Ray's job id -> our task, "" where it is none of ours, of every driver that runs."""
        return {job: task for job, (task, running) in self.jobs().items() if running}

    def jobs(self):
        """Ray's job id -> (our task or "", whether its driver runs). Ray's own and this process are none."""
        return {
            job.job_id.hex(): (job.config.metadata.get(TASK, ""), not job.is_dead)
            for job in self._job_table()
            if not (OURS in job.config.metadata or job.config.ray_namespace.startswith(INTERNAL))
        }

    def _job_table(self):
        """Every driver that Ray knows, also those that have ended; without what Ray would have to ask others for."""
        table = self._client.get_all_job_info(
            skip_submission_job_info_field=True, skip_is_running_tasks_field=True, timeout=CALL_SECONDS
        )
        return table.values()


class Tables:
    """The GCS's tables of tasks, actors and placement groups, for who asks why something waits or stays. Imports and connects
    with the first question."""

    def __init__(self, address):
        self._address, self._lock = address, threading.Lock()
        self._service: Any = None
        self._stubs: Any = None

    def waiting(self, drivers):
        """What waits for a node, by driver: {"job", "tasks" and "actors": shapes with counts, "gangs": ids of groups}. Work
        inside a group waits with it."""
        found = {job: {"tasks": {}, "actors": {}, "gangs": []} for job in drivers}

        def count(kind, job_id, work):
            if (entry := found.get(job_id.hex())) is not None and not work.placement_group_id:
                selectors = {label: _sorted_selector(text) for label, text in work.label_selector.items()}
                key = json.dumps({"resources": dict(work.required_resources), "selectors": selectors}, sort_keys=True)
                entry[kind][key] = entry[kind].get(key, 0) + 1

        for event in self._tasks():
            if event.task_info.type == NORMAL_TASK:
                count("tasks", event.job_id, event.task_info)
        for actor in (*self._actors(PENDING_CREATION), *self._actors(RESTARTING)):
            count("actors", actor.job_id, actor)
        for group in self._groups():
            if (entry := found.get(group.creator_job_id.hex())) is not None and group.state in (PENDING, RESCHEDULING):
                entry["gangs"].append(group.placement_group_id.hex())
        return [
            {"job": job, "gangs": entry["gangs"], **{kind: _listed(entry[kind]) for kind in ("tasks", "actors")}}
            for job, entry in sorted(found.items())
            if any(entry.values())
        ]

    def users(self, node_id):
        """Actors and placement groups on a node: {"kind", "name", "detached", "job": Ray's id}."""
        return [
            {"kind": "actor", "name": a.name or a.class_name, "detached": a.is_detached, "job": a.job_id.hex()}
            for a in self._actors(ALIVE)
            if a.address.node_id.hex() == node_id and not a.name.startswith(HOLD)
        ] + [
            {
                "kind": "placement group",
                "name": group.name or group.placement_group_id.hex()[:16],
                "detached": group.is_detached,
                "job": group.creator_job_id.hex(),
            }
            for group in self._groups()
            if group.state != REMOVED and any(bundle.node_id.hex() == node_id for bundle in group.bundles)
        ]

    def _tasks(self):
        service, stubs = self._open()
        filters = service.GetTaskEventsRequest.Filters(exclude_driver=True)
        filters.state_filters.add(state="PENDING_NODE_ASSIGNMENT", predicate=0)
        request = service.GetTaskEventsRequest(limit=MOST_TASKS, filters=filters)
        return stubs["tasks"].GetTaskEvents(request, timeout=CALL_SECONDS).events_by_task

    def _actors(self, state):
        service, stubs = self._open()
        filters = service.GetAllActorInfoRequest.Filters(state=state)
        request = service.GetAllActorInfoRequest(limit=MOST_ACTORS, filters=filters)
        return stubs["actors"].GetAllActorInfo(request, timeout=CALL_SECONDS).actor_table_data

    def _groups(self):
        service, stubs = self._open()
        request = service.GetAllPlacementGroupRequest(limit=MOST_ACTORS)
        return stubs["groups"].GetAllPlacementGroup(request, timeout=CALL_SECONDS).placement_group_table_data

    def _open(self) -> Any:
        with self._lock:
            if self._stubs is None:
                from ray._private.grpc_utils import init_grpc_channel
                from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

                channel = init_grpc_channel(self._address, asynchronous=False)
                self._service, made = gcs_service_pb2, gcs_service_pb2_grpc
                self._stubs = {
                    "tasks": made.TaskInfoGcsServiceStub(channel),
                    "actors": made.ActorInfoGcsServiceStub(channel),
                    "groups": made.PlacementGroupInfoGcsServiceStub(channel),
                }
        return self._service, self._stubs


def _submitted(job_id, info):
    """A job of `ray job submit`, of what Ray keeps of it in JSON."""
    state = STATES.get(info.get("status"), str(info.get("status")).lower())
    return {
        **_row(job_id, "submission", state, info.get("entrypoint"), info.get("start_time"), info.get("end_time")),
        "exit_code": info.get("driver_exit_code"),
        "reason": _first_line(info.get("message") or "-") if state == "failed" else "",
    }


def _driver(job):
    """A program that joined by itself. How it ended nobody tells Ray."""
    state = "ended" if job.is_dead else "running"
    where = {"address": job.driver_ip_address, "pid": job.driver_pid}
    return {**_row(job.job_id.hex(), "driver", state, job.entrypoint, job.start_time, job.end_time), **where}


def _row(job_id, kind, state, entrypoint, began, ended):
    times = {"submitted": (began or 0) / 1000 or None, "started": (began or 0) / 1000 or None}
    told = {"exit_code": None, "reason": "", "entrypoint": str(entrypoint or "")[:1000]}
    return {
        "id": job_id,
        "source": "ray",
        "kind": kind,
        "state": state,
        **times,
        "ended": (ended or 0) / 1000 or None,
        **told,
    }


def _is_by_hand(config):
    """Not of the queue, of a submission, or of Ray's and our own parts."""
    known, namespace = config.metadata, config.ray_namespace
    ours = TASK in known or OURS in known or namespace == NAMESPACE
    return not ours and "job_submission_id" not in known and not namespace.startswith(INTERNAL)


def _node(node):
    return {
        "id": node.node_id.hex(),
        "instance_id": node.instance_id,
        "status": STATUS.get(node.status, "UNSPECIFIED"),
        "idle_ms": node.idle_duration_ms,
        "total": dict(node.total_resources),
        "available": dict(node.available_resources),
        "activity": list(node.node_activity),
    }


def _sorted_selector(text):
    """As `_shape` writes it: Ray's tables have it as the user wrote it."""
    head, listed, rest = text.partition("in(")
    return f"{head}in({','.join(sorted(rest.removesuffix(')').split(',')))})" if listed else text


def _listed(counts):
    return [{**json.loads(shape), "count": n} for shape, n in sorted(counts.items())]


def _counted(entries):
    shapes = ({**_shape(e.request), "count": e.count} for e in entries)
    return sorted(shapes, key=lambda s: json.dumps(s, sort_keys=True))


def _gang(gang):
    bundles = {}
    for request in gang.requests:
        shape = json.dumps(_shape(request), sort_keys=True)
        bundles[shape] = bundles.get(shape, 0) + 1
    pg_id, _, rest = gang.details.partition(":")
    constraints = [c for r in gang.requests for c in r.placement_constraints]
    strategy = rest.partition("|")[0]
    if strategy not in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"):
        strategy = "STRICT_SPREAD" if any(c.HasField("anti_affinity") for c in constraints) else "PACK"
    return {
        "id": pg_id,
        "strategy": strategy,
        "bundles": [{**json.loads(shape), "count": n} for shape, n in sorted(bundles.items())],
    }


def _shape(request):
    """Alternative selectors are tried in turn by Ray; the first is what the user would rather have."""
    selectors = {}
    for selector in request.label_selectors[:1]:
        for constraint in selector.label_constraints:
            values = sorted(constraint.label_values)
            text = values[0] if len(values) == 1 else f"in({','.join(values)})"
            selectors[constraint.label_key] = ("!" if constraint.operator == 2 else "") + text
    return {"resources": dict(request.resources_bundle), "selectors": selectors}


class Holds:
    """GPUs that Ray holds for us on a node: an actor pinned there, which knows their ids. It outlives this process, and is found
    again by its name. The driver starts with the first question about holds."""

    def __init__(self, address):
        self._address, self._lock = address, threading.Lock()

    def take(self, hold_id, node_id, count):
        """The ids; those that it has, where it is there already."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray = self._driver()

        class Hold:
            def __init__(self, count):
                self._count = count

            def held(self):
                import ray

                return ray.get_runtime_context().get_node_id(), [int(i) for i in ray.get_gpu_ids()], self._count

        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = (
            ray.remote(Hold)
            .options(
                num_gpus=count,
                num_cpus=0,
                scheduling_strategy=pinned,
                name=HOLD + hold_id,
                lifetime="detached",
                get_if_exists=True,
            )
            .remote(count)
        )
        try:
            return ray.get(actor.held.remote(), timeout=HOLD_SECONDS)[1]
        except Exception as error:
            ray.kill(actor)
            raise Refused(f"Ray did not let go of {count:g} GPUs of node {node_id}: {_first_line(error)}") from error

    def release(self, hold_id):
        """Whether there was such a hold."""
        ray = self._driver()
        try:
            ray.kill(ray.get_actor(HOLD + hold_id))
        except ValueError:  # there is none of that name
            return False
        return True

    def all(self):
        """Whoever took them. One that Ray has not granted has no node and no ids."""
        ray = self._driver()
        names = [name for name in ray.util.list_named_actors() if name.startswith(HOLD)]
        return [self._told(ray, name) for name in sorted(names)]

    def _told(self, ray, name):
        try:
            node, ids, *told = ray.get(ray.get_actor(name).held.remote(), timeout=TOLD_SECONDS)
        except Exception:
            node, ids, told = "", [], []
        count = told[0] if told else len(ids)  # one of an earlier version has whole GPUs
        return {"hold": name.removeprefix(HOLD), "node": node, "gpu_ids": ids, "gpus": count}

    def _driver(self) -> Any:
        import ray
        from ray.job_config import JobConfig

        with self._lock:
            if not ray.is_initialized():
                ray.init(
                    self._address,
                    namespace=NAMESPACE,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=JobConfig(metadata={OURS: "1"}),
                )
        return ray


class Helper:
    def __init__(self, address):
        self._gcs, self._holds, self._tables = Gcs(address), Holds(address), Tables(address)
        self._drivers, self._drivers_due, self._requested = None, 0.0, []
        self._commands = ThreadPoolExecutor(max_workers=8)
        self._packages: dict[str, list[bytes]] = {}  # what has come of them so far
        self._last = {}
        self._changed = threading.Condition()

    def poll(self):
        """For ever: what changed goes out. Idle times grow by themselves and are no change; their reset is."""
        seen, lost = "", False
        while True:
            started = time.monotonic()
            try:
                state = self._gcs.state()
                state = {**state, "drivers": self._drivers_while(state["requests"])}
            except Unsupported as error:
                end_unsupported(error)
            except Exception as error:
                if not lost:
                    say({"t": "lost", "message": f"Ray's GCS does not answer: {_first_line(error)}"})
                lost, seen = True, ""
                time.sleep(POLL_SECONDS)
                continue
            lost = False
            with self._changed:
                self._last = {n["id"]: n for n in state["nodes"]}
                self._changed.notify_all()
            key = json.dumps(
                {**state, "nodes": [{**n, "idle_ms": n["idle_ms"] > 0} for n in state["nodes"]]}, sort_keys=True
            )
            if key != seen:
                seen = key
                say({"t": "state", "version": self._gcs.version, **state})
            time.sleep(max(0.0, POLL_SECONDS - (time.monotonic() - started)))

    def _drivers_while(self, requested):
        """Who runs, as of some seconds ago at most, while something is requested: what Ray itself does not connect. Else None."""
        now = time.monotonic()
        if not requested:
            self._drivers = None
        elif self._drivers is None or requested != self._requested or now >= self._drivers_due:
            self._drivers = self._gcs.drivers()
            took = time.monotonic() - now
            self._drivers_due = now + took + max(DRIVERS_SECONDS, SPARING * took)
        self._requested = requested
        return self._drivers

    def answer(self, command):
        """Carries one command out and replies; whatever goes wrong is the reply's "error"."""
        try:
            reply = getattr(self, f"do_{command['do']}")(command)
        except Exception as error:
            reply = {"error": str(error) or type(error).__name__}
        say({"t": "reply", "id": command["id"], **reply})

    def do_resize(self, command):
        """The "totals" that are in force afterwards, and how many "seconds" Ray took."""
        started = time.perf_counter()
        totals = self._gcs.resize(command["node"], {k: float(v) for k, v in command["resources"].items()})
        return {"totals": totals, "seconds": time.perf_counter() - started}

    def do_drain(self, command):
        """An idle drain is asked for only where Ray looks idle: the mere question marks the node's actors as preempted. Any other
        is a preemption, and may be said again with another time: "left" in seconds, null for no end."""
        node_id, if_idle, left = command["node"], command["if_idle"], command.get("left")
        with self._changed:
            if not self._changed.wait_for(lambda: self._last, DRAIN_CONFIRM_SECONDS):
                raise Refused("Ray's GCS has not told its nodes yet")
        node = self._last.get(node_id)
        if node is None or node["status"] == "DEAD" or (if_idle and node["status"] == "DRAINING"):
            return {"accepted": True, "detail": "Ray does not use this node any more"}
        if if_idle and not _is_idle(node):
            return {"accepted": False, "detail": "the node is in use"}
        reason = IDLE_TERMINATION if if_idle else PREEMPTION
        deadline = 0 if if_idle or left is None else int((time.time() + left) * 1000)
        accepted, detail = self._gcs.drain(node_id, reason, command["message"], deadline)
        if accepted and self._until_draining(node_id):
            return {"accepted": True, "detail": "Ray accepted, and its state confirms it"}
        if if_idle:
            return {"accepted": False, "detail": str(detail)}
        raise Refused(f"Ray does not let go of node {node_id}: {detail or 'its state does not show that it would'}")

    def _until_draining(self, node_id):
        """Accepting is not enough: unknown nodes are accepted too."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._last.get(node_id, {"status": "DEAD"})["status"] in ("DEAD", "DRAINING"),
                DRAIN_CONFIRM_SECONDS,
            )

    def do_hold_gpus(self, command):
        return {"gpu_ids": self._holds.take(command["hold"], command["node"], command["count"])}

    def do_release(self, command):
        return {"released": self._holds.release(command["hold"])}

    def do_holds(self, command):
        return {"holds": self._holds.all()}

    def do_report(self, command):
        self._gcs.report(command["pending"], command["failed"])
        return {}

    def do_who(self, command):
        drivers = self._gcs.drivers()
        return {"waiting": [{**w, "task": drivers[w["job"]]} for w in self._tables.waiting(drivers)]}

    def do_users(self, command):
        jobs = self._gcs.jobs()
        return {"users": [{**u, "task": jobs.get(u["job"], ("",))[0]} for u in self._tables.users(command["node"])]}

    def do_forget_requests(self, command):
        """Only where no driver runs now: any that does may have asked for the very same."""
        if self._gcs.drivers():
            return {"forgotten": False}
        self._gcs.clear_requests()
        return {"forgotten": True}

    def do_jobs(self, command):
        """The newest of them."""
        return {"jobs": self._gcs.own_jobs()[:MOST_JOBS]}

    def do_http(self, command):
        """One request to Ray's dashboard, with its token: {"status", "text"}."""
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if command["body"] is None else json.dumps(command["body"]).encode()
        url, method = command["url"], command["method"]
        request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310  ours is http
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=command["seconds"]) as answer:
                return {"status": answer.status, "text": answer.read().decode(errors="replace")}
        except urllib.error.HTTPError as error:
            return {"status": error.code, "text": error.read().decode(errors="replace")}
        except OSError as error:
            why = getattr(error, "reason", error)
            raise Refused(f"Ray's dashboard does not answer: {_first_line(why)}") from error

    def do_package(self, command):
        """Without "data": whether the GCS has it. With it: the next piece (in base64), and with "last" it is put there."""
        uri, data = command["uri"], command.get("data")
        if data is None:
            self._packages.pop(uri, None)
            return {"there": self._gcs.has_package(uri)}
        pieces = self._packages.setdefault(uri, [])
        pieces.append(base64.b64decode(data))
        if command["last"]:
            self._gcs.put_package(uri, b"".join(self._packages.pop(uri)))
        return {"there": command["last"]}

    def do_drop_package(self, command):
        self._gcs.drop_package(command["uri"])
        return {}

    def serve(self):
        """Carries out commands, several at a time, and returns at the end of stdin without waiting for the last ones."""
        threading.Thread(target=self.poll, daemon=True).start()
        for line in sys.stdin:
            self._commands.submit(self.answer, json.loads(line))


def _is_idle(node):
    return (
        node["status"] == "IDLE" and node["total"] == node["available"]
    )  # `activity` keeps the last reasons: no help here


def _first_line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


def end_unsupported(error) -> NoReturn:
    """Says so and ends the process with code 3, in whichever thread it is called."""
    say({"t": "unsupported", "message": str(error)})
    os._exit(3)


def main():
    """Never returns: the process ends with 0 after its stdin, and with 3 where this Ray lacks what is needed."""
    try:
        helper = Helper(os.environ["CLUSTERCTL_GCS"])
    except Unsupported as error:
        end_unsupported(error)
    helper.serve()
    os._exit(0)  # Ray's driver threads need no farewell: the GCS notices


if __name__ == "__main__":
    main()
