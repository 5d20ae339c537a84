"""Instances that are stopped and started again, by the rules of the provisioner: journalled first, repeated until the
provider's list shows it, and never more than the journal says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from clusterctl_providers.base import HasStop, Provider

from clusterctl.core.errors import BadRequest, ProviderError, Throttled, UnknownOutcome
from clusterctl.core.lifecycle import EVENTS
from clusterctl.core.model import STARTING, Action, Node, NodeState, Start, Stop
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.outcome import Outcome
from clusterctl.provision.retries import Retries
from clusterctl.provision.watching import Watcher

Due = tuple[Action | None, Node]


class Stopper:
    """`refuse(error, node)` blocks what a provider had no room for."""

    def __init__(
        self,
        journal: Journal,
        watcher: Watcher,
        providers: Mapping[str, Provider],
        refuse: Callable[[ProviderError, Node], None],
        clock: Callable[[], float],
    ) -> None:
        self._journal, self._watcher, self._providers = journal, watcher, providers
        self._refuse, self._clock = refuse, clock
        self._retries = Retries()

    def stop(self, actions: Sequence[Stop]) -> list[Outcome]:
        """Journals the stops, then makes those that are due; one outcome for each node that something was decided of."""
        outcomes, due = self._journalled(actions)
        return outcomes + self._stop(due)

    def start(self, actions: Sequence[Start]) -> list[Outcome]:
        """As `stop`, for nodes that are to run again."""
        outcomes, due = self._journalled(actions)
        return outcomes + self._start(due)

    def resume(self, now: float) -> list[Outcome]:
        """Asks again for what the journal says and the lists do not show: the first call may have been lost."""
        stops: list[Due] = [(None, node) for node in self._unstopped() if self._retries.at(node.instance_id) <= now]
        starts: list[Due] = [(None, node) for node in self._unstarted() if self._retries.at(node.instance_id) <= now]
        return self._stop(stops) + self._start(starts)

    def wake_at(self) -> list[float]:
        """When each stop or start that is not done is tried again."""
        return [self._retries.at(node.instance_id) for node in [*self._unstopped(), *self._unstarted()]]

    def _unstopped(self) -> list[Node]:
        return [
            node
            for node in self._journal.in_state(NodeState.STOPPING)
            if self._watcher.state_of(node.instance_id) in ("pending", "running")
        ]

    def _unstarted(self) -> list[Node]:
        return [
            node
            for node in self._journal.in_state(NodeState.REQUESTED)
            if node.code == STARTING and self._watcher.state_of(node.instance_id) == "stopped"
        ]

    def _journalled(self, actions: Sequence[Stop] | Sequence[Start]) -> tuple[list[Outcome], list[Due]]:
        """Writes down what is meant, for all of them at once; a plan made for another state of a node is refused."""
        refused: list[Outcome] = []
        due: list[Due] = []
        with self._journal.together():
            for action in actions:
                node = self._journal.get(action.node_id)
                if node is None or node.state not in EVENTS[action.op][0] or node.instance_id != action.instance_id:
                    is_now = f"{node.state.value} as {node.instance_id}" if node else "unknown"
                    text = f"{action.node_id} is {is_now}: it cannot {action.op} {action.instance_id}"
                    refused.append(Outcome(action, False, "stale_plan", text, node))
                    continue
                code = STARTING if isinstance(action, Start) else action.reason.code
                node = self._journal.move(node.id, action.op, self._clock(), action.reason.text, code)
                self._retries.settled(node.instance_id)
                due.append((action, node))
        return refused, due

    def _by_provider(self, due: Sequence[Due]) -> Iterator[tuple[Provider, list[Due]]]:
        for name, provider in list(self._providers.items()):
            mine = [(a, n) for a, n in due if self._watcher.provider_of(n.instance_id, n.pool) == name]
            if mine:
                self._journal.check_fence()
                yield provider, mine

    # ------------------------------------------------------------ stop

    def _stop(self, due: Sequence[Due]) -> list[Outcome]:
        return [outcome for provider, mine in self._by_provider(due) for outcome in self._stop_with(provider, mine)]

    def _stop_with(self, provider: Provider, due: Sequence[Due]) -> list[Outcome]:
        error = _call_stop(provider, [node.instance_id for _, node in due])
        if isinstance(error, BadRequest) and len(due) > 1:  # one of them cannot be stopped: which?
            return [outcome for one in due for outcome in self._stop_with(provider, [one])]
        outcomes: list[Outcome] = []
        for action, node in due:
            now = self._clock()
            if isinstance(error, BadRequest):
                node = self._journal.move(node.id, "fail", now, f"it could not be stopped: {error}", error.code)
            else:
                self._retries.wait_longer(node.instance_id, now)
            outcomes.append(Outcome(action, error is None, error.code if error else "", str(error or ""), node))
        return outcomes

    # ------------------------------------------------------------ start

    def _start(self, due: Sequence[Due]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for provider, mine in self._by_provider(due):
            answers = _call_start(provider, [node.instance_id for _, node in mine])
            outcomes += [
                self._started(action, node, answer) for (action, node), answer in zip(mine, answers, strict=True)
            ]
        return outcomes

    def _started(self, action: Action | None, node: Node, error: ProviderError | None) -> Outcome:
        now, move = self._clock(), self._journal.move
        if isinstance(error, Throttled):
            self._retries.wait_until(node.instance_id, now + error.retry_after)
        elif error is None or type(error) in (ProviderError, UnknownOutcome):
            self._retries.wait_longer(node.instance_id, now)  # until the list shows it
        elif isinstance(error, BadRequest):
            node = move(node.id, "fail", now, f"it could not be started again: {error}", error.code)
        else:  # there is no room for it now: it stays stopped, and another offer has its turn
            node = move(node.id, "stopped", now, str(error), error.code)
        if error is None:
            return Outcome(action, True, node=node)
        if not isinstance(error, BadRequest):  # that is this one instance's fault, and not its offer's
            self._refuse(error, node)
        return Outcome(action, False, error.code, str(error), node)


def _call_stop(provider: Provider, ids: list[str]) -> ProviderError | None:
    if not isinstance(provider, HasStop):
        return BadRequest(f"provider {provider.name} cannot stop {', '.join(ids)}: leave keep_stopped out of its pools")
    try:
        provider.stop(ids)
    except ProviderError as error:
        return error
    except Exception as error:
        return UnknownOutcome(f"stopping {', '.join(ids)} had no clear outcome ({error or type(error).__name__})")
    return None


def _call_start(provider: Provider, ids: list[str]) -> Sequence[ProviderError | None]:
    if not isinstance(provider, HasStop):
        return [BadRequest(f"provider {provider.name} cannot start stopped instances")] * len(ids)
    try:
        answers = provider.start(ids)
        if len(answers) == len(ids):
            return answers
        trouble = f"it answered {len(answers)} of {len(ids)} requests"
    except Exception as error:
        trouble = str(error) or type(error).__name__
    return [UnknownOutcome(f"starting {', '.join(ids)} had no clear outcome ({trouble})")] * len(ids)
