"""`clusterctl logs`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.print_logs import LogPrinter
from clusterctl.client.logs import End, LogReader


@verb
def logs(
    call: Call,
    job: Annotated[str, typer.Argument(metavar="ID", help="The job.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[Optional[int], typer.Option(min=0, metavar="N", help="Only this rank of a gang.")] = None,  # noqa: UP045
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="This attempt [default: the last].")] = None,
    tail: Annotated[Optional[int], typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,  # noqa: UP045
) -> None:
    """Print what a job wrote.

    \b
    Example:
      clusterctl logs j-abcd2345 -f
    """
    with call.api() as api:
        ranks = int(api.get(f"/api/v1/jobs/{job}").get("nodes") or 1)
        printer = LogPrinter(ranks=rank is None and ranks > 1, as_json=call.json)
        end: End | None = None
        reader = LogReader(api, job, ranks=ranks, rank=rank, attempt=attempt, tail=tail)
        with closing(reader.pieces(follow_on=follow)) as pieces:
            for piece in pieces:
                if isinstance(piece, End):
                    end = piece
                else:
                    printer.show(piece)
        printer.end(end)
