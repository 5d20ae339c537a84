"""Several jobs at once: those that are named, or those that a state, a name or `all` choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.core.errors import UsageError

MOST = 1_000_000


@dataclass(frozen=True)
class Which:
    """`words`: as jobs are named on the command line; or else all in `state` ("" = any that fits), called `name` ("" = any)."""

    words: Sequence[str] = ()
    all: bool = False
    state: str = ""
    name: str = ""

    @property
    def is_choice(self) -> bool:
        """Whether jobs are chosen by what they are, and not named one by one."""
        return self.all or bool(self.state or self.name)

    def check(self) -> None:
        """Raises UsageError where nothing, or two different things, are said."""
        if self.words and self.is_choice:
            raise UsageError("name the jobs, or choose them with --all, --state or --name: not both")
        if not self.words and not self.is_choice:
            raise UsageError("which jobs? Name them, or choose them with --all, --state or --name")


def chosen(api: Api, which: Which, fitting: Sequence[str]) -> list[dict[str, Any]]:
    """The jobs that are chosen, as `jobs --json` has them, the oldest first. Only states in `fitting` are looked for; raises
    UsageError for another."""
    if which.state and which.state not in fitting:
        raise UsageError(f"--state {which.state}: here it is one of {', '.join(fitting)}")
    states = [which.state] if which.state else fitting
    jobs = [job for state in states for job in list_jobs(api, MOST, state=state, match=which.name)["jobs"]]
    fit = (
        job for job in jobs if which.name in ("", job["name"]) and not job.get("service")
    )  # those are their service's
    return sorted(fit, key=lambda job: (job["submitted"], job["id"]))
