"""Messages between agent and head. Standard library only: the agent bundle carries this file.

A connection is TLS (the agent pins the cluster's CA), made by the agent, and carries frames in both directions:

    4 bytes  length of the JSON header, big-endian
    4 bytes  length of the payload (0 for most), big-endian
    header   a JSON object; "t" names the message
    payload  raw bytes (log chunks, pieces of blobs)

Agent -> head
    hello   wire, purpose ("control" | "blob"), uid, node_id, generation, secret (join token, or the credential it was exchanged
            for), boot_id, version, address, facts, tasks [TaskReport of everything it still knows], engine {state...},
            prepared {digest, state ...}
    beat    seq, use {cpu, memory, gpu, gpu_memory},   every `beat_seconds`; renews the lease on both sides; now and then with
            figures {node, disks, gpus, jobs}          what is in use on the machine: CPUs, bytes, GPUs, bytes; and all that
                                                       `agent.measuring` finds, for the head's `/metrics`
    tasks   items [TaskReport]                         "running" once, "exited" until acknowledged
    log     task, offset (+ payload)                   bytes of the merged output from `offset`; dropped = bytes lost to the cap
                                                       just before `offset` (offsets count the program's output, so they jump)
    engine  state, ray_node_id, address, detail, ...   the raylet's state on this node
    notice  kind ("preempt"), at, left                 the provider will take the machine away, in `left` seconds
    ending  reason                                     this agent ends, for whatever reason: it takes no more tasks
    prepared digest, state (none | running | done | failed), step, error, output, seconds   how far its files and setup are
    mounts  items [{place, from, to, state (mounted | failed | lost), detail; type, source, mode, size, free, at}]
                                                       all that is mounted for the cluster; sizes in bytes at that moment
    get     digest                                     on a "blob" connection

Host's daemon -> head (purpose "standby": hello has host instead of node_id and generation; secret is the host's own token)
    hello   uid, host, secret, facts (no `gpus` while the driver has not answered), claims [claim without its bootstrap]
    claims  items [claim], refused {token: reason}, ended {instance: end of its agent's log}, facts {...} whenever they changed
Head -> host's daemon
    claim   claim {instance, token, node_id, generation, role, tags, bootstrap ...}              one node of this host is wanted
    release instance                                                                             end it and park again

Head -> agent
    welcome wire, credential (first join only), beat_seconds, lease_seconds
    refuse  code, reason, final                        final = do not try again: stop work and shut down
    run     tasks [TaskSpec]
    kill    tasks [id], grace_seconds, reason          SIGTERM to the process group, SIGKILL after the grace
    recall  tasks [id]                                 give back those that wait behind another task; started ones go on
    ack     tasks [id], logs {task: offset}            these exits and log bytes are on disk
    engine_start config, engine_stop
    prepare digest, mounts [mount], files [{from, to, digest, kind "file" | "directory"}], setup [command], env, timeout,
            engine, python                             mount this, put these files in place, then run these commands, once per
                                                       digest;
                                                       `engine`: jobs will run under one, by the interpreter `python` if given
    beat    seq                                        the answer to a beat: renews the agent's lease when nothing else is said
    stop    reason, grace_seconds                      end all work, then this node
    blob    digest, size (+ payload)                   repeated until `size` bytes have come; "missing" = true if unknown

A mount is {from, to, mode (read-only | read-write | cached), below ($CLUSTERCTL_MOUNTS comes before `to`), over (what is at
`to` may be hidden)} and one of:
    file_system {type, source, options [...], package (that brings mount.TYPE), secret [user, variable with the password]}
    ways [{program, argv ({to} and {cache} stand for paths), env, dirty (it notes what is not written back)}], programs (in words)
    directory                                          of this machine: a link leads there
    given true                                         whoever made this node has mounted it
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from dataclasses import dataclass, field, fields
from typing import Any

WIRE_VERSION = 1
MAX_HEADER = 16 * 1024 * 1024
MAX_HELLO = 4 * 1024 * 1024  # from whom nothing is known yet; room for some 10,000 task reports
MAX_PAYLOAD = 1024 * 1024
_LENGTHS = struct.Struct(">II")

Message = dict[str, Any]


class WireError(Exception):
    """The peer sent something that is not a frame of ours, or a frame larger than allowed."""


def encode(message: Message, payload: bytes = b"") -> bytes:
    """A whole frame. Raises WireError where header or payload is over its limit, and TypeError for what JSON cannot hold."""
    header = json.dumps(message, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER or len(payload) > MAX_PAYLOAD:
        raise WireError(f"message {message.get('t')!r} is too large ({len(header)} + {len(payload)} bytes)")
    return _LENGTHS.pack(len(header), len(payload)) + header + payload


async def read_frame(reader: asyncio.StreamReader, begun: bytes = b"", most: int = MAX_HEADER) -> tuple[Message, bytes]:
    """The next frame, of which `begun` was read already, with a header of at most `most` bytes; raises
    asyncio.IncompleteReadError at the end of the stream and WireError on nonsense."""
    header_size, payload_size = _LENGTHS.unpack(begun + await reader.readexactly(_LENGTHS.size - len(begun)))
    if header_size > most or payload_size > MAX_PAYLOAD:
        raise WireError(f"a frame of {header_size} + {payload_size} bytes is over the limit")
    body = await reader.readexactly(header_size + payload_size)
    try:
        message = json.loads(body[:header_size])
    except (ValueError, RecursionError) as error:
        raise WireError("a frame's header is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise WireError("a frame's header has no message type")
    return message, body[header_size:]


class _Record:
    """JSON in and out for the dataclasses below; unknown keys are ignored so that a newer peer may add fields."""

    @classmethod
    def from_json(cls, data: Message) -> Any:
        names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{k: v for k, v in data.items() if k in names})

    def to_json(self) -> Message:
        return dict(vars(self))  # not `asdict`, which copies all that is inside: each start would pay for it


@dataclass
class Bootstrap(_Record):
    """What a new node is told, in one JSON document: `join_token` is its only secret and works once.

    `heads` are "host:port" to try in turn. `orphan_timeout` (seconds): the node ends itself when the head has been silent
    for so long. `directory` is the node's own ("" = chosen by the agent). `shutdown` says how to end: "exit" (a process or
    container) or "poweroff" (a machine). `engines`: where engine environments are shared by the nodes of this machine ("" = the
    node has its own). `disk`: where the node has room for much, and finds nothing after its end ("" = its own directory).
    """

    cluster: str
    uid: str
    node_id: str
    generation: int
    heads: list[str]
    ca_pem: str
    join_token: str
    pool: str = ""
    role: str = "worker"
    address: str = ""
    bundle_digest: str = ""
    orphan_timeout: float = 900.0
    directory: str = ""
    engines: str = ""
    disk: str = ""
    of_image: bool = False  # the agent's environment came with the node, and is what its work is to have
    shutdown: str = "exit"
    notice: float = 0.0  # seconds that a SIGTERM leaves it, where that says that its place is taken away: a pod's grace
    metadata: str = ""  # whose metadata service the machine has, where notices are read: see agent/notices/watch
    resources: dict[str, float] = field(default_factory=dict)


@dataclass
class TaskSpec(_Record):
    """One process to run. `task` is "JOB/ATTEMPT/RANK", unique for ever. `package` is the digest of a blob to unpack and run in.

    `after`: the task that must have ended here before this one starts ("" = at once; an unknown one counts as ended).
    `gpus`: how many whole GPUs to assign ("gpu_ids" names them if the head chose). `engine`: attach the node's engine
    (RAY_ADDRESS and friends). `port`: where it is going to listen (0 = nowhere): it is started only when that is free.
    `timeout` in seconds from start, None = none. `log_cap` in bytes. `runtime_env` is Ray's.
    `requirements`: packages that it is to find beside those of `python`, the interpreter of its node, a line each; where `argv`
    begins with that interpreter, it runs in the environment that has them.
    """

    task: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    package: str = ""
    gpus: float = 0
    gpu_ids: list[int] | None = None
    engine: bool = False
    timeout: float | None = None
    log_cap: int = 256 * 1024 * 1024
    runtime_env: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    port: int = 0
    requirements: list[str] = field(default_factory=list)
    python: str = ""


@dataclass
class TaskReport(_Record):
    """`exit_code` is the program's own, 128+N for signal N, None while it runs or when it never started (`error` says why).

    `log_size` is the final length of its output in bytes, so that the head knows when the log is whole. Times are unix
    seconds of the node's clock, for display only. `lost`: the agent knows of it but cannot say how it ended, or the node
    (not the program) was why it never started, or was ended: try again. `ran`: seconds for which it has run, by the node's steady
    clock, at the moment of the report; None before it has started.
    `stopped`: "" | "killed" (asked by the head) | "timeout" | "recalled" (never started, given back) | "port_taken" (never
    started: another program listens where it was to).
    """

    task: str
    state: str  # "running" | "exited"
    pid: int = 0
    exit_code: int | None = None
    error: str = ""
    stopped: str = ""
    started: float = 0.0
    ended: float = 0.0
    log_size: int = 0
    gpu_ids: list[int] = field(default_factory=list)
    lost: bool = False
    ran: float | None = None


def client_context(ca_pem: str) -> ssl.SSLContext:
    """TLS for the agent: the cluster's own CA and nothing else. The certificate names the cluster's uid, not a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    return context


def server_name(uid: str) -> str:
    """The name in the head's certificate; agents pass it as `server_hostname` whatever address they dial."""
    return f"head-{uid}.clusterctl.internal"
