"""What the client tells a head that runs on an instance of its own cluster: which instance that is, where nodes reach it, and
what was launched before it ran.

`handover.json` is written anew by every `up`, beside the state that may be that of an earlier head on another machine. So it
is compared with the journal at each start, and only what differs is done.
"""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from clusterctl_providers.base import CreateRequest, CreateResult, HasStop, Provider
from clusterctl_providers.wrapper import Wrapper

from clusterctl.core.errors import BadRequest, UsageError
from clusterctl.core.model import Instance, Node, Observed
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.moved_head import give_up

log = logging.getLogger(__name__)

FILE = "handover.json"


@dataclass(frozen=True)
class Handover:
    """`own` is the head's node, `address` that of its machine in its network, `public` the one for nodes outside of that ("" for
    none), `bundle` the digest of the agent that the first nodes were told to fetch, `records` those of the journal that the
    client kept so far."""

    own: str
    address: str
    bundle: str
    records: Sequence[tuple[str, int]]
    public: str = ""

    @classmethod
    def load(cls, directory: Path) -> Handover | None:
        """None where the head does not run on an instance."""
        try:
            document = json.loads((directory / FILE).read_text())
            records = [(str(text), int(checksum)) for text, checksum in document["records"]]
            public = str(document.get("public") or "")
            return cls(document["own"], document["address"], document["bundle"], records, public)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{directory / FILE} cannot be read ({error}): run `clusterctl up SPEC`") from error

    def take_over(self, journal: Journal, now: float) -> tuple[str, list[Node]]:
        """Makes the journal agree: the nodes launched for this head are in it, heads before it are not, and nodes that know
        another address than this head has are to be ended. Returns the id of the instance that this runs on, and those nodes."""
        with journal.together():
            older = list(journal.nodes().values())
            for text, checksum in self.records:
                journal.take_over(text, checksum, now)
            former = [node for node in journal.nodes().values() if node.role == "head" and node.id != self.own]
            for node in former:
                log.info("%s (%s) was the head before %s", node.id, node.instance_id, self.own)
                journal.bury(node.id, now, f"its instance is gone, {self.own} took its place", "head_replaced")
            left = ", ".join(sorted({node.address for node in former} - {self.address, ""}))
            lost = give_up(journal, older, left, self.own, self.address, now) if left else []
        node = journal.get(self.own)
        return node.instance_id if node else "", lost

    def agent(self, directory: Path) -> tuple[Path, str] | None:
        """The agent that the client brought along, and its digest; None where it has been cleared away."""
        path = directory.parent / f"agent-{self.bundle}.pyz"
        return (path, self.bundle) if path.exists() else None


class OwnMachine(Wrapper):
    """A provider, for a head that runs on one of its instances: that one it ends by `end_itself` alone. When the cluster is taken
    down (`leaving`) the head ends all others; its own, and what the cluster has besides, is ended by the client."""

    def __init__(self, inner: Provider, instance_id: str) -> None:
        super().__init__(inner)
        self.own, self.leaving = instance_id, False

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        """A head's machine is launched by `up` and by nobody else: there is one disk with its state."""
        others = [request for request in requests if request.pool.role != "head"]
        results = {request.token: result for request, result in zip(others, self.inner.create(others), strict=True)}
        refusal = BadRequest(
            "the head's own machine is launched by `clusterctl up`, and not by the head that runs on it"
        )
        return [results.get(request.token, refusal) for request in requests]

    def list(self) -> list[Observed]:
        """While `leaving`, without the own instance: the head waits for the end of the others only."""
        shown = self.inner.list()
        if not self.leaving:
            return [replace(s, instances=tuple(map(self._as_it_is, s.instances))) for s in shown]
        return [replace(s, instances=tuple(i for i in s.instances if i.id != self.own)) for s in shown]

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """As `list`: the own instance is not there while `leaving`."""
        found = self.inner.look_up([i for i in instance_ids if not (self.leaving and i == self.own)])
        return {instance_id: self._as_it_is(instance) for instance_id, instance in found.items()}

    def _as_it_is(self, instance: Instance) -> Instance:
        """The own machine runs, since the head does, also while it is being stopped: by somebody, or for its host's sake. A head
        that wrote it down as lost would end it when it is started again."""
        stopping = instance.id == self.own and instance.state in ("stopping", "stopped")
        return replace(instance, state="running") if stopping else instance

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Ends the others, and then raises BadRequest where the own instance was among them, but not while `leaving`."""
        others = self._others(instance_ids)
        if others:
            self.inner.terminate(others)
        if len(others) < len(instance_ids) and not self.leaving:
            raise BadRequest(
                f"{self.own} is the machine that the head itself runs on: end it with the cloud's own tools, then "
                "`clusterctl up` puts another in its place with the queue as it is"
            )

    def end_itself(self) -> None:
        """Ends the own instance, and with it this process soon: for a cluster that ends itself, of which nothing else runs.
        Returns when the provider accepted; raises ProviderError."""
        self.inner.terminate([self.own])

    def stop(self, instance_ids: Sequence[str]) -> None:
        """Passes over the own instance."""
        cast("HasStop", self.inner).stop(self._others(instance_ids))

    def sweep(self) -> builtins.list[str]:
        """Nothing: the head's machine needs it, until the client ends that."""
        return []

    def _others(self, instance_ids: Sequence[str]) -> builtins.list[str]:
        return [i for i in instance_ids if i != self.own]
