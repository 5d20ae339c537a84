"""Reasons and stories as a person reads them; nothing here fetches."""

from __future__ import annotations

from typing import Any

from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.jobs import clock
from clusterctl.cli.render.status import state
from clusterctl.cli.render.text import amounts, columns, duration, money, plural


def render_explain(document: dict[str, Any], now: float) -> str:
    """The document of `explain`; `now` in unix seconds, for how long it may still take."""
    reason = document.get("reason") or {}
    where = f" in {one_line(document['place'])}" if document.get("place") else ""
    lines = [f"{document.get('kind', '')} {document['id']}{where}: {state(document.get('state', ''))}"]
    if reason.get("text"):
        lines.append(f"reason  {one_line(reason['text'])} [{one_line(reason.get('code') or '-')}]")
    if reason.get("fix"):
        lines.append(f"fix     {one_line(reason['fix'])}")
    if document.get("eta"):
        lines.append(f"ready   in about {duration(document['eta'] - now)}")
    if document.get("ahead"):
        lines.append(f"ahead   {document['ahead']} queued before it")
    passed = [[p["offer"], p.get("code", ""), p.get("text", "")] for p in document.get("passed_over") or []]
    if passed:
        lines += ["", columns(["offer passed over", "code", "why"], passed)]
    if document.get("story"):
        lines += ["", render_story(document["story"])]
    if output := failed_setup(document):
        lines += ["", "what its setup printed last:", output]
    return "\n".join(lines)


def render_submission(document: dict[str, Any], now: float) -> str:
    """What would become of a job that is not submitted yet."""
    reason, count, nodes = document["reason"], document["count"], document["nodes"]
    ranks = f" on {plural(nodes, 'node')}" if nodes > 1 else ""
    what = f"{plural(count, 'job')} of {amounts(document['resources'])}{ranks}"
    verdict = {"now": "would start now", "later": "would wait for nodes", "not": "would not start"}[document["starts"]]
    lines = [f"{what} {verdict}: {one_line(reason['text'])}"]
    if document["after"]:
        lines.append(f"after   {', '.join(map(one_line, document['after']))}")
    if reason["fix"]:
        lines.append(f"fix     {one_line(reason['fix'])}")
    for launch in document["launches"]:
        place = f"{launch['instance_type']} ({launch['market']}, {launch['zone']})"
        lines.append(f"+ {launch['count']} x {place} at {money(launch['price_per_hour'])}/h each")
    if document["launches"]:
        lines.append(f"cost    {money(document['per_hour'])}/h more while these nodes run")
    if document["starts"] == "later" and document["eta"]:
        lines.append(f"ready   in about {duration(document['eta'] - now)}")
    return "\n".join(lines)


def failed_setup(document: dict[str, Any], lines: int = 20) -> str:
    """The end of a node's setup output, indented, where that setup failed; "" for any other."""
    reason = document.get("reason")  # a sentence in a node's document, code and text in an explanation
    code = reason.get("code") if isinstance(reason, dict) else document.get("code")
    failed = (document.get("preparing") or {}).get("error") or code == "setup_failed"
    output = str(document.get("output") or "").rstrip() if failed else ""
    return "\n".join(f"  {one_line(line)}" for line in output.splitlines()[-lines:])


def render_story(story: list[dict[str, Any]]) -> str:
    """One event in a row, in the order given."""
    rows = [
        [clock(item.get("at")), item.get("event") or "", item.get("state") or "", item.get("reason") or ""]
        for item in story
    ]
    return columns(["at", "event", "state", "reason"], rows) if rows else "no story yet"


def render_event(event: dict[str, Any]) -> str:
    """One line of the document of `events`."""
    return f"{clock(event['at'])}  {event['kind']:8}  {one_line(event['subject'])}  {event['code']}  {one_line(event['text'])}"
