"""What `/metrics` has: every name, in the order of the page, with its type, labels and meaning. Nothing else is told there.

python -m clusterctl_runtime.head.metrics.table docs/monitoring.md      writes the table into that page
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

BEGIN, END = "<!-- metrics: made from code, `make docs` -->\n", "<!-- end of metrics -->\n"
OTHERS = "(others)"  # the label of users beyond the first hundred

_HEAD, _NODES, _MONEY, _QUEUE = "The head", "Nodes", "Money", "Jobs and the queue"
_SCALER, _MACHINES, _USE = (
    "Autoscaler and providers",
    "Machines, as their agents measure them",
    "What jobs use of a node",
)
_NODE = ("node", "pool")
_GPU = ("node", "pool", "gpu")
_JOB = ("node", "pool", "job_id")  # not `job`, which Prometheus gives every series itself


class Entry(NamedTuple):
    """One metric. `text` is its HELP, without a full stop; units are in the name."""

    part: str
    name: str
    kind: Literal["gauge", "counter", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


def _gauge(part: str, name: str, text: str, *labels: str) -> Entry:
    return Entry(part, f"clusterctl_{name}", "gauge", text, labels)


def _counter(part: str, name: str, text: str, *labels: str) -> Entry:
    return Entry(part, f"clusterctl_{name}_total", "counter", text, labels)


def _histogram(part: str, name: str, text: str, *labels: str) -> Entry:
    return Entry(part, f"clusterctl_{name}_seconds", "histogram", text, labels)


_LATE = "How late the head's event loop was, looked at 50 times a second"
TABLE: tuple[Entry, ...] = (
    _gauge(_HEAD, "build_info", "Always 1: which version this is", "version", "python"),
    _gauge(_HEAD, "cluster_info", "Always 1: which cluster this is", "name", "uid", "provider"),
    _histogram(_HEAD, "loop_late", _LATE),
    _histogram(_HEAD, "loop_busy", f"{_LATE} by its own computing"),
    _gauge(
        _HEAD,
        "storage_bytes",
        "Size of what the head keeps: jobs and nodes (its two files), logs (output of jobs), packages",
        "kind",
    ),
    _gauge(_HEAD, "head_disk_size_bytes", "Of the file system with the head's directory"),
    _gauge(_HEAD, "head_disk_free_bytes", "Of the file system with the head's directory, for its user"),
    _gauge(
        _NODES,
        "nodes",
        "Nodes there are; zeros too, for each pool and market that has offers",
        "pool",
        "market",
        "state",
    ),
    _gauge(_NODES, "pool_nodes_min", "Nodes that the pool has at least, by the spec", "pool"),
    _gauge(_NODES, "pool_nodes_max", "Nodes that the pool may have, by the spec", "pool"),
    _gauge(_NODES, "nodes_disconnected", "Nodes that have joined and whose agent is not connected now", "pool"),
    _gauge(
        _NODES,
        "oldest_launch_timestamp_seconds",
        "When the oldest of the nodes that are not ready yet was asked for; not there when none is on its way",
        "pool",
    ),
    _histogram(_NODES, "node_start", "From when a node was asked for until it took work", "pool"),
    _counter(
        _NODES,
        "node_failures",
        "Nodes that failed, or that the provider took away, by the code of the reason",
        "pool",
        "reason",
    ),
    _gauge(_MONEY, "price_dollars_per_hour", "Price of the nodes of a pool", "pool"),
    _counter(_MONEY, "spend_dollars", "Spent on the nodes of a pool to date, under all heads of the cluster", "pool"),
    _gauge(_MONEY, "budget_spent_dollars", "Spent in this day or month (UTC)", "period"),
    _gauge(_MONEY, "budget_limit_dollars", "The spec's budget of a day or month; not there without one", "period"),
    _gauge(
        _MONEY,
        "user_price_dollars_per_hour",
        f"Price of what a user's running jobs hold; of over 100 users the others as {OTHERS}",
        "user",
    ),
    _counter(
        _MONEY, "user_spend_dollars", "What a user's jobs have cost to date, under all heads of the cluster", "user"
    ),
    _gauge(_QUEUE, "jobs", "Jobs by state; of those that have ended, all that there ever were", "state"),
    _gauge(
        _QUEUE, "queue_jobs", "Queued jobs by the code of why they wait; undecided: no plan has seen them yet", "reason"
    ),
    _gauge(
        _QUEUE,
        "queue_oldest_timestamp_seconds",
        "Since when the first of a line waits, of the line where that is longest ago; not there when none waits for room",
    ),
    _histogram(_QUEUE, "job_wait", "From when a job was queued until it ran, by the pool where it did", "pool"),
    _counter(_QUEUE, "attempts", "Attempts at jobs that have ended", "outcome"),
    _gauge(_QUEUE, "demand", "Waiting demand by source", "source"),
    _histogram(_SCALER, "plan", "Time to make a plan"),
    _counter(_SCALER, "decisions", "What was planned and carried out, by the code of the reason", "action", "reason"),
    _counter(_SCALER, "launches", "Launches that a provider has accepted", "pool", "market"),
    _counter(
        _SCALER, "launch_refusals", "Launches that a provider has not accepted, by code", "pool", "market", "reason"
    ),
    _counter(_SCALER, "autoscaler_failures", "Rounds of the autoscaler that failed"),
    _histogram(_SCALER, "provider_call", "Calls of a provider, and how long each took", "provider", "call"),
    _counter(
        _SCALER, "provider_errors", "Errors that calls of a provider ended with, by code", "provider", "call", "reason"
    ),
    _gauge(
        _MACHINES,
        "node_info",
        "Always 1: what the node is; its address is the one by which Ray calls it",
        *_NODE,
        *("provider", "instance_type", "market", "zone", "address"),
    ),
    _gauge(_MACHINES, "node_heard_timestamp_seconds", "When the agent of a node that has joined last spoke", *_NODE),
    _gauge(_MACHINES, "node_cpus", "CPUs of the machine, or of the container", *_NODE),
    _counter(
        _MACHINES, "node_cpu_seconds", "CPU time used on the machine: its rate is the number of CPUs in use", *_NODE
    ),
    _gauge(_MACHINES, "node_memory_size_bytes", "Memory of the machine, or of the container", *_NODE),
    _gauge(_MACHINES, "node_memory_used_bytes", "Memory in use, without what is only cached", *_NODE),
    _gauge(
        _MACHINES,
        "node_disk_size_bytes",
        "Of a file system: root, work (the node's directory) or data (its large disk), if it is another one",
        *_NODE,
        "place",
    ),
    _gauge(_MACHINES, "node_disk_free_bytes", "Of the same file systems, for the agent's user", *_NODE, "place"),
    _counter(_MACHINES, "node_disk_read_bytes", "Read from disks", *_NODE),
    _counter(_MACHINES, "node_disk_written_bytes", "Written to disks", *_NODE),
    _counter(_MACHINES, "node_network_received_bytes", "Received over the network, from other machines", *_NODE),
    _counter(_MACHINES, "node_network_sent_bytes", "Sent over the network, to other machines", *_NODE),
    _gauge(
        _MACHINES,
        "node_gpu_trouble",
        "1 where the driver says that a GPU is sick, or does not answer; only of nodes with GPUs",
        *_NODE,
    ),
    _gauge(_MACHINES, "gpu_info", "Always 1: which GPU has this number of nvidia-smi", *_GPU, "uuid", "name"),
    _gauge(_MACHINES, "gpu_utilization_ratio", "Part of the time in which the GPU computed", *_GPU),
    _gauge(_MACHINES, "gpu_memory_size_bytes", "Memory of the GPU", *_GPU),
    _gauge(_MACHINES, "gpu_memory_used_bytes", "Memory of the GPU in use", *_GPU),
    _gauge(_MACHINES, "gpu_temperature_celsius", "Temperature of the GPU", *_GPU),
    _gauge(_MACHINES, "gpu_power_watts", "Electric power of the GPU", *_GPU),
    _counter(_MACHINES, "gpu_ecc_errors", "Errors of GPU memory since the driver was loaded", *_GPU, "kind"),
    _counter(
        _MACHINES,
        "gpu_xid_errors",
        "Errors that the driver has written to the kernel's log, by NVIDIA's number; where the agent may read that log",
        *_GPU,
        "xid",
    ),
    _gauge(
        _USE,
        "job_info",
        "Always 1: whose job it is, and its name; of jobs that use a node now",
        "job_id",
        "name",
        "user",
    ),
    _counter(_USE, "job_cpu_seconds", "CPU time of the job's processes", *_JOB),
    _gauge(
        _USE, "job_memory_bytes", "Resident memory of the job's processes; what two of them share counts twice", *_JOB
    ),
    _gauge(_USE, "job_processes", "Processes of the job", *_JOB),
    _counter(_USE, "job_disk_read_bytes", "Read from disks by the job's processes", *_JOB),
    _counter(_USE, "job_disk_written_bytes", "Written to disks by the job's processes", *_JOB),
    _gauge(_USE, "job_gpu_share_ratio", "How much of a GPU the job was given", *_JOB, "gpu"),
)
ENTRIES = {entry.name: entry for entry in TABLE}


def markdown() -> str:
    """The table for people, one for each part."""
    lines: list[str] = []
    for part, entries in groupby(TABLE, key=lambda entry: entry.part):
        lines += [f"### {part}\n", "\n", "| Metric | Type | Labels | Meaning |\n", "|---|---|---|---|\n"]
        for entry in entries:
            labels = ", ".join(f"`{label}`" for label in entry.labels)
            lines.append(f"| `{entry.name}` | {entry.kind} | {labels} | {entry.text}. |\n")
        lines.append("\n")
    return "".join(lines)


def in_page(text: str) -> str:
    """The page with the table of now between its marks. Raises ValueError where it has none."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}\n{markdown()}{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(in_page(page.read_text()))
