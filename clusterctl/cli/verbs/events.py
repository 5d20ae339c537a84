"""`clusterctl events`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.explain import render_event
from clusterctl.client.head.api import Api, follow


@verb
def events(
    call: Call,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    since: Annotated[int, typer.Option(metavar="SEQ", help="Only those after this number; -1: the newest.")] = -1,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="At most so many.")] = 200,
    subject: Annotated[
        str, typer.Option(metavar="ID", help="Only those of this job or node.", show_default=False)
    ] = "",
    history: OfHistory = "",
) -> None:
    """Print the cluster's journal, with reasons.

    \b
    Example:
      clusterctl events -f
    """
    with call.api(history) as api:
        document = api.get("/api/v1/events", since=since, limit=limit, subject=subject)
        if call.json and not follow_on:
            output.write_json(document)
            return
        for event in document["events"]:
            _print(call, event)
        if follow_on and not history:
            for event in _onward(api, document, since, subject):
                _print(call, event)


def _onward(api: Api, document: dict[str, Any], since: int, subject: str) -> Generator[dict[str, Any], None, None]:
    """Events after those of `document`, each once, also when the head is started again."""
    seen = document["events"][-1]["seq"] if document["events"] else max(since, int(document.get("last") or 0))

    def open_stream() -> Generator[dict[str, Any], None, None]:
        return api.stream("/api/v1/events", since=seen, follow=1, subject=subject)

    for event in follow(open_stream):
        seen = max(seen, int(event["seq"]))
        yield event


def _print(call: Call, event: dict[str, Any]) -> None:
    if call.json:
        output.write_json_line(event)
    else:
        output.write_line(render_event(event))
