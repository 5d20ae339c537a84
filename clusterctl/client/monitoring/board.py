"""The board for Grafana, made from a list of panels: what each asks of Prometheus, and in which unit the answer is.

Ids, places and the data source of panels are given here and nowhere else, so that none can be wrong alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39  # of Grafana 10.4 and all that came after it
COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CLUSTER = 'cluster="$cluster"'
_POOL = f'{_CLUSTER}, pool=~"$pool"'
_NODE = f'{_POOL}, node=~"$node"'
_ACTIONS = "launch|start|drain|stop|terminate|fail"  # and not what is merely noted of a node
_UNPAID = "planned|stopped|terminated|failed"
_MOST = 20  # lines in a panel with one for each node or job
SHARE, DOLLARS, SECONDS, BYTES, BYTES_A_SECOND = "percentunit", "currencyUSD", "s", "bytes", "Bps"
CELSIUS, WATTS, COUNT, A_SECOND = "celsius", "watt", "short", "ops"


@dataclass(frozen=True)
class Panel:
    """`asks`: expression -> what its lines are called. `unit` is Grafana's name of it. `kind`: timeseries; stat: one value, as
    it is now; bargauge: one for each line, over the whole range that is shown."""

    title: str
    unit: str
    asks: dict[str, str]
    about: str = ""
    kind: str = "timeseries"


def _one(title: str, unit: str, expression: str, about: str = "") -> Panel:
    return Panel(title, unit, {expression: ""}, about, "stat")


def _by(labels: str, expression: str) -> dict[str, str]:
    """Lines by a label or several; the largest alone where there may be many."""
    summed = f"sum by ({labels}) ({expression})"
    named = " ".join(f"{{{{{name}}}}}" for name in labels.split(", "))
    many = not {"node", "job_id"}.isdisjoint(labels.split(", "))
    return {f"topk({_MOST}, {summed})" if many else summed: named}


def _largest(named: str, expression: str) -> dict[str, str]:
    return {f"topk({_MOST}, {expression})": named}


def _rate(metric: str, labels: str) -> str:
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def _spent(label: str, metric: str, labels: str) -> Panel:
    asks = _by(label, f"increase({metric}{{{labels}}}[$__range])")
    return Panel(f"Spent, by {label}", DOLLARS, asks, "In the time that is shown.", "bargauge")


def _quantiles(metric: str, labels: str, *by: str, rare: bool = False) -> dict[str, str]:
    """The median and the slowest twentieth of a histogram: lately, or of `rare` things since the head was started."""
    kept = ", ".join(("le", *by))
    named = "".join(f" {{{{{label}}}}}" for label in by)
    buckets = f"{metric}_bucket{{{labels}}}" if rare else _rate(f"{metric}_bucket", labels)
    shares = ((0.5, "half"), (0.95, "95 %"))
    return {f"histogram_quantile({share}, sum by ({kept}) ({buckets}))": f"{name}{named}" for share, name in shares}


def _both(label: str, first: str, second: str) -> dict[str, str]:
    """Two counters of nodes, added up."""
    return _by(label, f"{_rate(first, _NODE)} + {_rate(second, _NODE)}")


_SINCE = "Since the head was started."
_NOW = (
    _one("Nodes ready", COUNT, f'sum(clusterctl_nodes{{{_POOL}, state="ready"}})'),
    _one("Jobs running", COUNT, f'sum(clusterctl_jobs{{{_CLUSTER}, state="running"}})'),
    _one("Jobs queued", COUNT, f'sum(clusterctl_jobs{{{_CLUSTER}, state="queued"}})'),
    _one(
        "$ per hour", DOLLARS, f"sum(clusterctl_price_dollars_per_hour{{{_POOL}}})", "Of the nodes that there are now."
    ),
    _one(
        "$ today", DOLLARS, f'sum(clusterctl_budget_spent_dollars{{{_CLUSTER}, period="day"}})', "Since midnight UTC."
    ),
    _one(
        "Alerts",
        COUNT,
        f'sum(ALERTS{{{_CLUSTER}, alertname=~"Clusterctl.*", alertstate="firing"}}) or vector(0)',
        "Those of clusterctl.rules.yml that fire.",
    ),
)
_MONEY = (
    Panel("Price by pool", DOLLARS, _by("pool", f"clusterctl_price_dollars_per_hour{{{_POOL}}}"), "$ per hour."),
    Panel(
        "Price by user",
        DOLLARS,
        _by("user", f"clusterctl_user_price_dollars_per_hour{{{_CLUSTER}}}"),
        "$ per hour of what running jobs hold; what no job holds is nobody's.",
    ),
    Panel(
        "Budget used",
        SHARE,
        {
            f"clusterctl_budget_spent_dollars{{{_CLUSTER}}} / (clusterctl_budget_limit_dollars{{{_CLUSTER}}} > 0)": "{{period}}"
        },
        "Of limits.budget in the spec; empty where there is none.",
    ),
    _spent("pool", "clusterctl_spend_dollars_total", _POOL),
    _spent("user", "clusterctl_user_spend_dollars_total", _CLUSTER),
)
_QUEUE = (
    Panel("Jobs", COUNT, _by("state", f'clusterctl_jobs{{{_CLUSTER}, state=~"queued|running"}}')),
    Panel(
        "Why jobs wait",
        COUNT,
        _by("reason", f"clusterctl_queue_jobs{{{_CLUSTER}}}"),
        "`clusterctl explain JOB` says more.",
    ),
    Panel(
        "Longest wait",
        SECONDS,
        {f"time() - clusterctl_queue_oldest_timestamp_seconds{{{_CLUSTER}}}": "longest"},
        "Of a job that may start; empty while none waits.",
    ),
    Panel("From queued to running", SECONDS, _quantiles("clusterctl_job_wait_seconds", _POOL, "pool")),
    Panel("Attempts that ended", COUNT, _by("outcome", f"clusterctl_attempts_total{{{_CLUSTER}}}"), _SINCE),
    Panel(
        "Demand for nodes",
        COUNT,
        _by("source", f"clusterctl_demand{{{_CLUSTER}}}"),
        "Waiting work, by who asks for it.",
    ),
)
_NODES = (
    Panel("Nodes by state", COUNT, _by("state", f"clusterctl_nodes{{{_POOL}}} > 0")),
    Panel("Nodes that are paid for", COUNT, _by("pool, market", f'clusterctl_nodes{{{_POOL}, state!~"{_UNPAID}"}}')),
    Panel(
        "On its way for",
        SECONDS,
        {f"time() - clusterctl_oldest_launch_timestamp_seconds{{{_POOL}}}": "{{pool}}"},
        "The oldest node that was asked for and is not ready; empty while none is.",
    ),
    Panel(
        "From asked for to ready",
        SECONDS,
        _quantiles("clusterctl_node_start_seconds", _POOL, "pool", rare=True),
        _SINCE,
    ),
    Panel("Nodes that failed", COUNT, _by("pool, reason", f"clusterctl_node_failures_total{{{_POOL}}}"), _SINCE),
    Panel("Agents not connected", COUNT, _by("pool", f"clusterctl_nodes_disconnected{{{_POOL}}}")),
)
_PROVIDERS = (
    Panel("Launches", COUNT, _by("pool, market", f"clusterctl_launches_total{{{_POOL}}}"), _SINCE),
    Panel("Launches refused", COUNT, _by("pool, reason", f"clusterctl_launch_refusals_total{{{_POOL}}}"), _SINCE),
    Panel("Decisions", COUNT, _by("action", f'clusterctl_decisions_total{{{_CLUSTER}, action=~"{_ACTIONS}"}}'), _SINCE),
    Panel(
        "Calls of providers", A_SECOND, _by("provider, call", _rate("clusterctl_provider_call_seconds_count", _CLUSTER))
    ),
    Panel("Time of a call", SECONDS, _quantiles("clusterctl_provider_call_seconds", _CLUSTER, "call")),
    Panel(
        "Calls that failed", COUNT, _by("provider, reason", f"clusterctl_provider_errors_total{{{_CLUSTER}}}"), _SINCE
    ),
)
_MACHINES = (
    Panel(
        "CPUs in use",
        SHARE,
        _largest("{{node}}", f"{_rate('clusterctl_node_cpu_seconds_total', _NODE)} / clusterctl_node_cpus{{{_NODE}}}"),
    ),
    Panel(
        "Memory in use",
        SHARE,
        _largest(
            "{{node}}", f"clusterctl_node_memory_used_bytes{{{_NODE}}} / clusterctl_node_memory_size_bytes{{{_NODE}}}"
        ),
    ),
    Panel(
        "Disks in use",
        SHARE,
        _largest(
            "{{node}} {{place}}",
            f"1 - clusterctl_node_disk_free_bytes{{{_NODE}}} / clusterctl_node_disk_size_bytes{{{_NODE}}}",
        ),
    ),
    Panel(
        "Disks, read and written",
        BYTES_A_SECOND,
        _both("node", "clusterctl_node_disk_read_bytes_total", "clusterctl_node_disk_written_bytes_total"),
    ),
    Panel(
        "Network, received", BYTES_A_SECOND, _by("node", _rate("clusterctl_node_network_received_bytes_total", _NODE))
    ),
    Panel("Network, sent", BYTES_A_SECOND, _by("node", _rate("clusterctl_node_network_sent_bytes_total", _NODE))),
)
_GPUS = (
    Panel("GPUs in use", SHARE, _by("node, gpu", f"clusterctl_gpu_utilization_ratio{{{_NODE}}}")),
    Panel(
        "GPU memory in use",
        SHARE,
        _largest(
            "{{node}} {{gpu}}",
            f"clusterctl_gpu_memory_used_bytes{{{_NODE}}} / clusterctl_gpu_memory_size_bytes{{{_NODE}}}",
        ),
    ),
    Panel("GPU temperature", CELSIUS, _by("node, gpu", f"clusterctl_gpu_temperature_celsius{{{_NODE}}}")),
    Panel("GPU power", WATTS, _by("node, gpu", f"clusterctl_gpu_power_watts{{{_NODE}}}")),
    Panel(
        "GPU errors",
        COUNT,
        {
            f"sum by (node, gpu, kind) (clusterctl_gpu_ecc_errors_total{{{_NODE}}})": "{{node}} {{gpu}} {{kind}} ECC",
            f"sum by (node, gpu, xid) (clusterctl_gpu_xid_errors_total{{{_NODE}}})": "{{node}} {{gpu}} XID {{xid}}",
        },
        "Since the driver was loaded; XID where the agent may read the kernel's log.",
    ),
    Panel(
        "Sick GPUs",
        COUNT,
        _by("node", f"clusterctl_node_gpu_trouble{{{_NODE}}}"),
        "1: the driver says so, or is silent.",
    ),
)
_JOBS = (
    Panel("CPUs by job", COUNT, _by("job_id", _rate("clusterctl_job_cpu_seconds_total", _NODE))),
    Panel("Memory by job", BYTES, _by("job_id", f"clusterctl_job_memory_bytes{{{_NODE}}}")),
    Panel(
        "GPUs by job",
        COUNT,
        _by(
            "job_id",
            f"clusterctl_job_gpu_share_ratio{{{_NODE}}} * on (cluster, node, gpu) group_left () "
            f"clusterctl_gpu_utilization_ratio{{{_NODE}}}",
        ),
        "How many GPUs' worth of work it does, by its share of each.",
    ),
    Panel(
        "Disks by job",
        BYTES_A_SECOND,
        _both("job_id", "clusterctl_job_disk_read_bytes_total", "clusterctl_job_disk_written_bytes_total"),
    ),
    Panel("Processes by job", COUNT, _by("job_id", f"clusterctl_job_processes{{{_NODE}}}")),
)
_HEAD = (
    Panel("Head's loop, late", SECONDS, _quantiles("clusterctl_loop_late_seconds", _CLUSTER)),
    Panel("Time to make a plan", SECONDS, _quantiles("clusterctl_plan_seconds", _CLUSTER)),
    Panel("Plans that failed", COUNT, {f"clusterctl_autoscaler_failures_total{{{_CLUSTER}}}": "failed"}, _SINCE),
    Panel(
        "CPUs and GiB of memory of the head",
        COUNT,
        {
            _rate("process_cpu_seconds_total", f'{_CLUSTER}, job="clusterctl"'): "CPUs",
            f'process_resident_memory_bytes{{{_CLUSTER}, job="clusterctl"}} / 2^30': "GiB",
        },
    ),
    Panel("What the head keeps", BYTES, _by("kind", f"clusterctl_storage_bytes{{{_CLUSTER}}}")),
    Panel(
        "Head's disk in use",
        SHARE,
        {f"1 - clusterctl_head_disk_free_bytes{{{_CLUSTER}}} / clusterctl_head_disk_size_bytes{{{_CLUSTER}}}": "used"},
    ),
)
_RAY = (
    Panel(
        "Ray's resources in use",
        SHARE,
        {
            f'sum by (Name) (ray_resources{{{_NODE}, State="USED"}}) / sum by (Name) (ray_resources{{{_NODE}}})': "{{Name}}"
        },
    ),
    Panel("Ray's tasks", COUNT, _by("State", f"ray_tasks{{{_NODE}}}")),
    Panel("Ray's objects in memory", BYTES, _by("node", f"ray_object_store_used_memory{{{_NODE}}}")),
)
ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": _NOW,
    "Money": _MONEY,
    "Queue": _QUEUE,
    "Nodes": _NODES,
    "Autoscaler and providers": _PROVIDERS,
    "Machines": _MACHINES,
    "GPUs": _GPUS,
    "Jobs": _JOBS,
    "Head": _HEAD,
    "Ray": _RAY,
}


def board() -> dict[str, Any]:
    """The whole of it, as Grafana imports it."""
    return {
        "uid": "clusterctl",
        "title": "clusterctl",
        "tags": ["clusterctl"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "templating": {"list": _variables()},
        "panels": list(_placed()),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("cluster", "label_values(clusterctl_jobs, cluster)"),
        _variable("pool", f"label_values(clusterctl_nodes{{{_CLUSTER}}}, pool)", several=True),
        _variable("node", f"label_values(clusterctl_node_cpus{{{_POOL}}}, node)", several=True),
    ]


def _variable(name: str, query: str, *, several: bool = False) -> dict[str, Any]:
    """`refresh` 2: asked again when the time range changes."""
    every = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    asked = {"type": "query", "datasource": _SOURCE, "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1}
    return {"name": name, "label": name.capitalize(), **asked, **(every if several else {})}


def _placed() -> Iterator[dict[str, Any]]:
    """A line for each row's title, its panels below, from left to right."""
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        top, left, height = top + 1, 0, 0
        for panel in panels:
            number += 1
            wide, high = (4, 4) if panel.kind == "stat" else (8, 8)
            if left + wide > COLUMNS:
                top, left = top + height, 0
            yield _panel(number, panel, {"x": left, "y": top, "w": wide, "h": high})
            left, height = left + wide, high
        top += height


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + n),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": named or "__auto",
            "range": True,
        }
        for n, (expression, named) in enumerate(panel.asks.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": targets,
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"},
}
