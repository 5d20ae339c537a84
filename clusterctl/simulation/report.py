"""The document of `simulate` as one HTML file that needs nothing else: plotly's own script is inside."""

from __future__ import annotations

from html import escape
from typing import Any

from clusterctl.core.errors import UsageError
from clusterctl.simulation.table import duration, remarks

Document = dict[str, Any]

_HEADS = (
    "policy", "half waited at most", "95 % at most", "99 % at most", "cost", "GPU time used", "CPU time used", "most nodes",
    "launches", "spot losses", "jobs unserved",
)  # fmt: skip
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 0; }
p.sub { color: #4a5568; margin-top: .2rem; } h2 small { font-weight: 400; color: #4a5568; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #e2e8f0; }
td { white-space: nowrap; } th:first-child, td:first-child { text-align: left; } th { color: #4a5568; font-weight: 600; }
i.key { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .5em; }
ul { padding-left: 1.2rem; } li { margin: .2rem 0; overflow-wrap: anywhere; }
@media (max-width: 46rem) {
  body { margin: 1rem auto; }
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { padding: .5rem 0; border-bottom: 1px solid #cbd5e0; }
  td { display: flex; justify-content: space-between; padding: .1rem 0; border: 0; }
  td::before { content: attr(data-label); color: #4a5568; }
  td:first-child { font-weight: 600; justify-content: flex-start; }
  td:first-child::before { content: none; }
}
"""


def render_html(document: Document) -> str:
    """The whole page. Raises UsageError where plotly is not installed."""
    try:
        import plotly.graph_objects as go
        import plotly.io as pio
    except ModuleNotFoundError as error:
        raise UsageError("--html needs plotly: pip install 'clusterctl[simulate]'") from error
    charts: list[str] = []
    for title, note, figure in (
        ("How long jobs waited", "share of jobs that started within a time", _waits(go, document)),
        ("Nodes", "paid for, over time", _over_time(go, document, 1, "nodes")),
        ("Dollars", "spent so far", _over_time(go, document, 4, "$")),
        ("Queue", "jobs that wait", _over_time(go, document, 6, "jobs")),
    ):
        script = not charts  # once, for all charts
        body = pio.to_html(
            figure,
            full_html=False,
            include_plotlyjs=script,
            include_mathjax=False,
            config={"displayModeBar": False, "responsive": True},
        )
        charts.append(f"<h2>{title} <small>({note})</small></h2>\n{body}")
    trace = document["trace"]
    title = f"{escape(str(document['cluster']))}: {escape(trace['name'])}"
    sub = (
        f"{trace['jobs']} jobs over {trace['span_seconds'] / 86_400:.1f} days, {escape(document['world'])} world, "
        f"seed {document['seed']}"
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{title}</title>"
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1><p class='sub'>{sub}</p>\n"
        f"{_summary(document)}\n{_remarks(document)}\n" + "\n".join(charts) + "\n</body></html>\n"
    )


def _summary(document: Document) -> str:
    rows: list[str] = []
    for number, run in enumerate(document["policies"]):
        wait = run["wait"]
        cells = (
            f"<i class='key' style='background:{_colour(number)}'></i>{escape(run['policy'])}",
            *(duration(wait[q]) for q in ("p50", "p95", "p99")),
            f"${run['dollars']:,.2f}",
            f"{run['gpu_utilisation']:.0%}" if run["gpu_hours_paid"] else "-",
            f"{run['cpu_utilisation']:.0%}",
            f"{run['most_nodes']}",
            f"{run['launches']} ({run['refused_launches']} refused)",
            f"{run['interruptions']}",
            f"{run['jobs'] - run['finished']}",
        )
        labelled = zip(_HEADS, cells, strict=True)
        rows.append("<tr>" + "".join(f"<td data-label='{head}'>{cell}</td>" for head, cell in labelled) + "</tr>")
    head = "".join(f"<th>{text}</th>" for text in _HEADS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _remarks(document: Document) -> str:
    lines = remarks(document)
    return "<ul>" + "".join(f"<li>{escape(line.strip())}</li>" for line in lines) + "</ul>" if lines else ""


def _waits(go: Any, document: Document) -> Any:
    figure = go.Figure()
    longest = max((run["wait"]["max"] for run in document["policies"]), default=0.0)
    for number, run in enumerate(document["policies"]):
        curve = run["wait_curve"]
        figure.add_trace(
            go.Scatter(
                x=[max(wait, 1.0) for wait, _ in curve],
                y=[share * _started_share(run) for _, share in curve],
                name=run["policy"],
                mode="lines",
                line={"shape": "hv", "color": _colour(number), "width": 2},
                hovertemplate="%{y:.1%} within %{x:.0f} s",
            )
        )
    marks = [1, 10, 60, 600, 3600, 21_600, 86_400, 604_800]
    marks = [mark for mark in marks if mark <= max(longest * 2, 60)]
    figure.update_xaxes(
        type="log",
        tickvals=marks,
        ticktext=["at once", *(_mark(m) for m in marks[1:])],
        title="wait, at most",
        range=[0, None],
    )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02], title="jobs")
    return _laid_out(figure)


def _started_share(run: Document) -> float:
    """The share of all jobs that started at all: the curve of a policy that leaves jobs waiting ends below 100 %."""
    started = run["jobs"] - sum(entry["count"] for entry in run["unserved"])
    return max(started, run["finished"]) / run["jobs"] if run["jobs"] else 0.0


def _over_time(go: Any, document: Document, column: int, unit: str) -> Any:
    figure = go.Figure()
    for number, run in enumerate(document["policies"]):
        rows = run["timeline"]
        figure.add_trace(
            go.Scatter(
                x=[row[0] / 86_400 for row in rows],
                y=[row[column] for row in rows],
                name=run["policy"],
                mode="lines",
                line={"shape": "hv", "color": _colour(number), "width": 1.5},
                hovertemplate="day %{x:.2f}: %{y:,.0f} " + unit,
            )
        )
    figure.update_xaxes(title="days since the first job")
    figure.update_yaxes(
        rangemode="tozero", title="dollars" if unit == "$" else unit, tickprefix="$" if unit == "$" else ""
    )
    return _laid_out(figure)


def _laid_out(figure: Any) -> Any:
    figure.update_layout(
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 20, "t": 10, "b": 50},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        hovermode="x unified",
        showlegend=True,
    )
    return figure


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _mark(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
