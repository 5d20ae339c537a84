"""Real agents for the instances of the fake cloud (`boot: local`): started, stopped and ended with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from clusterctl.core.model import Instance, Offer
from clusterctl.core.resources import Resources
from clusterctl_providers.base import CreateRequest, PoolRequest, ProviderContext
from clusterctl_providers.fake.cloud import NEVER, FakeCloud, FakeInstance
from clusterctl_providers.local.provider import LocalProvider


class Boots:
    """Its agents are nodes of the local provider, below `directory`."""

    def __init__(self, context: ProviderContext, directory: Path, cloud: FakeCloud) -> None:
        self._cloud = cloud
        self._local = LocalProvider(replace(context, state_dir=str(directory)))

    def catch_up(self, ours: Sequence[FakeInstance], now: float, moment: Callable[[float], float]) -> None:
        """Starts the agents that are due, stops and ends those whose instance is, notes who died. `moment` is when, on the
        agents' clock, a time of the cloud comes."""
        alive = [i for i in ours if i.lives(now) and i.with_agent]
        due = [i for i in alive if i.stopped_at > now >= i.boots_at and not i.booted]
        first, again = [i for i in due if not i.starts], [i for i in due if i.starts]
        asleep = [i for i in alive if i.stopped_at <= now and i.booted]
        over = [i for i in ours if not i.lives(now) and i.with_agent and not i.cleared]
        booted = self._boot(first, moment) + self._start(again)
        if asleep:
            self._local.stop(self._ids(asleep))
        if over:
            self._local.terminate(self._ids(over))
        dead = {i.token for scope in self._local.list() for i in scope.instances if i.state == "terminated"}
        with self._cloud.change():
            self._note(booted, booted=True)
            self._note(asleep, booted=False)
            self._note(over, cleared=True)
            for instance in alive:
                if instance.booted and instance.token in dead and instance.stopped_at > now:
                    self._cloud.end(self._fresh(instance), now, "its agent has ended")

    def console_log(self, instance: FakeInstance) -> str:
        """What its agent printed last."""
        return self._local.console_log(self._local.instance_id(instance.token))

    def directory(self, node_id: str) -> str:
        return self._local.directory(node_id)

    def close(self) -> None:
        self._local.close()

    def _boot(self, instances: Sequence[FakeInstance], moment: Callable[[float], float]) -> list[FakeInstance]:
        """Returns those whose agent runs."""
        if not instances:
            return []
        results = self._local.create([_request(instance) for instance in instances])
        for instance in instances:
            if instance.noticed_at < NEVER:  # what the agent finds where a real one asks its cloud's metadata service
                taken, noticed = moment(instance.taken_at), moment(instance.noticed_at)
                notice = {"action": "terminate", "time": taken, "from": noticed}
                self._local.put_file(instance.token, "metadata.json", notice)
        return [i for i, result in zip(instances, results, strict=True) if isinstance(result, Instance)]

    def _start(self, instances: Sequence[FakeInstance]) -> list[FakeInstance]:
        if not instances:
            return []
        answers = self._local.start(self._ids(instances))
        return [instance for instance, error in zip(instances, answers, strict=True) if error is None]

    def _ids(self, instances: Sequence[FakeInstance]) -> list[str]:
        return [self._local.instance_id(instance.token) for instance in instances]

    def _note(self, instances: Sequence[FakeInstance], **what: bool) -> None:
        for instance in instances:
            self._cloud.put(replace(self._fresh(instance), **what))

    def _fresh(self, instance: FakeInstance) -> FakeInstance:
        return self._cloud.by_token(instance.token) or instance


def _request(instance: FakeInstance) -> CreateRequest:
    pool, instance_type, market, zone = instance.offer_key.split("/", 3)
    offer = Offer(pool, instance_type, market, zone, 0.0, Resources())
    return CreateRequest(
        instance.token, instance.node_id, instance.generation, offer, instance.tags,
        {**instance.bootstrap, "metadata": "script"}, PoolRequest(pool, {}),
    )  # fmt: skip
