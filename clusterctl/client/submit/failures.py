"""Which jobs of an array failed, and how their output begins: some of them, for a summary."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from clusterctl.client.head.api import PATIENCE_SECONDS, Api, with_patience
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.client.submit.logs import LogReader, Piece
from clusterctl.core.errors import ClusterctlError

SHOWN = 5  # jobs
LINES = 5  # of each
_BYTES = 2000  # of each, at most


@dataclass(frozen=True)
class Failure:
    """`reason`: as the head says it; `lines`: the first of the last attempt's output, without what is no UTF-8."""

    job: str
    reason: str
    lines: list[str]


def failures_of(api: Api, array_id: str) -> list[Failure]:
    """A few of those that failed, the first submitted first."""
    jobs = with_patience(lambda: list_jobs(api, SHOWN, state="failed", array=array_id), PATIENCE_SECONDS)["jobs"]
    return [Failure(str(job["id"]), str(job["reason"] or ""), _begin(api, str(job["id"]))) for job in reversed(jobs)]


def _begin(api: Api, job_id: str) -> list[str]:
    data = b""
    try:
        with closing(LogReader(api, job_id, rank=0).pieces(follow_on=False)) as pieces:
            for piece in pieces:
                data += piece.data if isinstance(piece, Piece) else b""
                if data.count(b"\n") >= LINES or len(data) >= _BYTES:
                    break
    except ClusterctlError:
        return []  # its log is not to be had: the reason says something
    return data[:_BYTES].decode(errors="replace").splitlines()[:LINES]
