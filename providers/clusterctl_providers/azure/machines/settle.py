"""What becomes of VMs in the first moments after they were accepted, and the removal of those that came to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import BadRequest, NoCapacity, NotYet, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.machines.instances import VmRows, has_failed, is_going, is_on_its_way
from clusterctl_providers.azure.machines.puts import Answers
from clusterctl_providers.azure.names import tags_in
from clusterctl_providers.base import TAG_UID

REFUSALS = 15.0  # seconds after which a VM that did not fail is believed to come
REMOVED_WITHIN = 240.0  # seconds; a forced deletion takes less than a minute
TOGETHER = 16


@dataclass
class Settled:
    """Of VMs by name: `rows` that are there, `failed` of them that are to be removed, `refused`: why, for whoever is not
    launched; `accepted`: all that Azure said yes to, shown or not."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failed: list[str] = field(default_factory=list[str])
    refused: dict[str, ProviderError] = field(default_factory=dict[str, ProviderError])
    accepted: set[str] = field(default_factory=set[str])


class Settling:
    def __init__(
        self,
        calls: Calls,
        rows: VmRows,
        uid: str,
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._calls, self._rows, self._uid, self._clock, self._pause = calls, rows, uid, clock, pause

    def await_all(self, answers: Answers, what: str) -> Settled:
        """Looks until each VM has come up or failed, for `REFUSALS` seconds at most."""
        settled = Settled(refused=dict(answers.refused), accepted=set(answers.accepted))
        wanted = answers.accepted | answers.unknown.keys()
        if not wanted:
            return settled
        pauses = Backoff(0.5, 5.0, factor=2.0, seconds=REFUSALS, clock=self._clock, sleep=self._pause)
        while True:
            settled.rows = self._rows.named(wanted)
            if all(name in settled.rows and not is_on_its_way(settled.rows[name]) for name in wanted):
                break
            if not pauses.wait():
                break
        for name in wanted:
            if error := self._refusal(name, settled.rows.get(name), answers, what):
                settled.refused[name] = error
                if name in settled.rows and has_failed(settled.rows[name]):
                    settled.failed.append(name)
        return settled

    def _refusal(self, name: str, row: Mapping[str, Any] | None, answers: Answers, what: str) -> ProviderError | None:
        """Why it is not launched; None for one that is, as far as that is to be known."""
        if row is None:
            return answers.unknown.get(name)
        if tags_in(row).get(TAG_UID) != self._uid:
            return BadRequest(
                f"{what}: there is a machine {name} of another cluster's: remove it, or name the cluster otherwise"
            )
        if is_going(row):
            return NotYet(f"waiting: {name} of an earlier launch is still being deleted", retry_after=5.0)
        if not has_failed(row):
            return None
        view = self._rows.view(row)
        if view is None or view.power == "running":
            return None
        return view.wrong or NoCapacity(f"{what}: Azure accepted it, and {name} failed without a reason")

    # ------------------------------------------------------------ removed

    def remove(self, names: Iterable[str], what: str) -> dict[str, ProviderError]:
        """Deletes these, with their cards and disks, and looks until none is shown. By name, those of which it is not known that
        they are gone."""
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return {}
        self._rows.let_go(wanted)
        with ThreadPoolExecutor(min(TOGETHER, len(wanted)), "clusterctl-azure") as pool:
            errors = dict(zip(wanted, pool.map(self._delete, wanted), strict=True))
        left: dict[str, ProviderError] = {
            name: UnknownOutcome(f"{what}: {error}") for name, error in errors.items() if error is not None
        }
        pauses = Backoff(0.5, 10.0, factor=1.5, seconds=REMOVED_WITHIN, clock=self._clock, sleep=self._pause)
        going = set(wanted) - left.keys()
        try:
            while going := self._rows.named(going).keys():
                if not pauses.wait():
                    break
        except ProviderError as error:
            return left | {name: UnknownOutcome(f"{what}: {error}") for name in going}
        text = "what failed is still being removed"
        return left | {name: UnknownOutcome(f"{what}: {text} ({name})") for name in going}

    def _delete(self, name: str) -> ProviderError | None:
        try:
            self._calls.change("DELETE", self._rows.path(name), f"removing {name}", forceDeletion="true")
        except ProviderError as error:
            return None if is_missing(error) else error
        return None
