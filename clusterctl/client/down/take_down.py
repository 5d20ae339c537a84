"""`down`: the head ends its nodes; what is left of them, and of the head, is ended from here by the cluster's uid.

Works whatever state `up` or the head is in, and can be repeated: the cluster is forgotten only when its providers list
nothing any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl.client.begun import is_begun
from clusterctl.client.head import process as headprocess
from clusterctl.client.head import tunnels
from clusterctl.client.head.api import Api, with_patience
from clusterctl.client.history.gathering import keep_history, tell_lost
from clusterctl.client.ray.environment import ways
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError, NotFound, UsageError
from clusterctl.provision.waiting import MOST_NAMES, StillWaiting, listed

if TYPE_CHECKING:
    from clusterctl_providers.base import HeadMachine

    from clusterctl.provision.journal.book import Journal

HALF_DOWN = "half-down"
NONE: Mapping[str, Mapping[str, Any]] = {}
LOOK_SECONDS = 0.5
PATIENCE = 300.0  # seconds for which a provider may fail before `down` gives up


def take_down(registry: Registry, cluster: Cluster, tell: Callable[[str], None], abandon: Sequence[str] = ()) -> None:
    """Ends everything of `cluster` and forgets it. `abandon`: hosts reached by SSH that need not be clean for that. The
    caller holds the cluster's lock."""
    if abandon and not cluster.on_hosts:
        raise UsageError("--abandon is for hosts reached by SSH: instances are ended by their provider")
    if not is_begun(cluster):
        tell(f"nothing was ever made of cluster {cluster.name}: no provider is asked")
        registry.forget(cluster)
        return
    ways(cluster).stop()  # while the head is there to be told
    if cluster.on_hosts:
        from clusterctl.client.nodes.machines import touched_machines
        from clusterctl.client.up.hosts import head_answers, take_down_remote

        if touched_machines(cluster.directory):
            _keep_history(registry, cluster, head_answers(cluster), tell)
        take_down_remote(cluster, tell, abandon)
        registry.forget(cluster)
        return
    if cluster.head_is_remote:
        begin_down(cluster)
    answers = headprocess.answers(cluster)
    _keep_history(registry, cluster, answers, tell)
    ended = answers and _ask_head(cluster, tell)
    headprocess.stop(cluster)
    if not ended or cluster.head_is_remote:  # a head cannot end the machine that it runs on
        end_leftovers(cluster, tell)
    if cluster.head_is_remote:
        tunnels.stop(cluster)
    registry.forget(cluster)


def _keep_history(registry: Registry, cluster: Cluster, answers: bool, tell: Callable[[str], None]) -> None:
    if answers:
        keep_history(registry, cluster, tell)
    else:
        tell_lost(registry, cluster, "its head does not answer", tell)


def begin_down(cluster: Cluster) -> None:
    """From now on whoever finds the cluster takes it down."""
    (cluster.directory / HALF_DOWN).touch(mode=0o600)


def is_half_down(cluster: Cluster) -> bool:
    """Whether a `down` was begun that did not come to its end: its head may have ended for good."""
    return (cluster.directory / HALF_DOWN).exists()


def _ask_head(cluster: Cluster, tell: Callable[[str], None]) -> bool:
    """Whether it has ended everything, and itself: two complete lists in a row showed nothing."""
    tell(f"the head of cluster {cluster.name} ends its nodes")
    try:
        answer = _told_meanwhile(cluster, tell)
    except ClusterctlError as error:
        tell(f"{error}; going on from here")
        return False
    return headprocess.wait_for_end(cluster) and answer.get("instances") == 0


def _told_meanwhile(cluster: Cluster, tell: Callable[[str], None]) -> dict[str, Any]:
    """The head's answer, which comes when all has ended; until then it is told now and then what has not."""
    waiting, answer = StillWaiting(tell), Future[dict[str, Any]]()

    def ask() -> None:
        try:
            with Api.of(cluster) as api:
                answer.set_result(with_patience(lambda: api.post("/api/v1/down", timeout=None), 10.0))
        except Exception as error:
            answer.set_exception(error)

    # Of nobody's pool, which Ctrl-C would wait for: the head goes on by itself.
    threading.Thread(target=ask, name="down", daemon=True).start()
    with Api.of(cluster) as api:
        while not answer.done():
            wait([answer], LOOK_SECONDS)
            if waiting.is_due and not answer.done():
                waiting.look(_still_there(api))
    return answer.result()


def _still_there(api: Api) -> str:
    """What `down` waits for, in the head's words; "" where it does not say."""
    try:
        page = api.get("/api/v1/nodes", limit=MOST_NAMES)
    except ClusterctlError:
        return ""
    names = [f"{node['id']} ({node.get('instance_id') or 'not launched yet'})" for node in page["nodes"]]
    return (
        f"{listed(names, page['total'])} to end" if names else "the head, which removes what is left beside its nodes"
    )


def end_leftovers(cluster: Cluster, tell: Callable[[str], None]) -> None:
    """Ends what the cluster's providers still list with its uid; returns after two complete lists without anything."""
    config = cluster.read_config()
    if not config:
        return  # no head was ever started, so nothing was ever launched
    from clusterctl.provision.provisioner import Provisioner

    providers = providers_of(cluster, config["spec"])
    with open_journal(cluster, tell) as journal:
        own, *others = providers
        if not others and _never_found(cluster, own) and not journal.next_numbers():
            return  # where nothing of this cluster was ever made
        journal.acquire(f"clusterctl down (process {os.getpid()})")
        provisioner = Provisioner(
            journal, providers, _no_bootstrap, cluster=cluster.name, uid=cluster.uid, clock=time.time
        )
        try:
            provisioner.down(tell, patience=PATIENCE)
        finally:
            provisioner.close()


def _never_found(cluster: Cluster, provider: str) -> bool:
    """Whether the provider would have noted the place where it makes anything, and has not: no engine ever answered."""
    from clusterctl.spec.providers.registry import KINDS

    search = KINDS[provider].search
    return search is not None and bool(search.note) and not (cluster.provider_dir / search.note).exists()


def providers_of(cluster: Cluster, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Every provider that this spec of the cluster names, the cluster's own first, and those of its specs before."""
    from clusterctl.provision.used_providers import used

    former = used(cluster.head_dir)
    return make_providers(cluster.name, cluster.uid, str(cluster.provider_dir), spec, former=former)


def make_providers(
    cluster: str,
    uid: str,
    state_dir: str,
    spec: Mapping[str, Any],
    head_machine: HeadMachine | None = None,
    former: Mapping[str, Mapping[str, Any]] = NONE,
    agent_bundle: str = "",
) -> dict[str, Any]:
    """Every provider that this spec names, the cluster's own first, then the `former` ones. `head_machine`: where the first one
    launches it; `agent_bundle`: the agent's file, for nodes that do not fetch it."""
    from clusterctl_providers import ProviderUnavailable, make_provider
    from clusterctl_providers.base import ProviderContext

    from clusterctl.provision.used_providers import beside, scratch
    from clusterctl.spec.providers.given import providers_in

    named = providers_in(spec)
    own = next(iter(named))
    every = named | {name: dict(former[name]) for name in former if name not in named}
    providers: dict[str, Any] = {}
    for name, settings in every.items():
        context = ProviderContext(
            cluster=cluster,
            uid=uid,
            state_dir=str(scratch(Path(state_dir), name, own)),
            settings=settings,
            beside=beside(Path(state_dir), name, every, own),
            auth=spec.get("auth") or {},
            head_machine=head_machine if name == own else None,
            agent_bundle=agent_bundle,
        )
        try:
            providers[name] = make_provider(name, context)
        except ProviderUnavailable as error:
            raise NotFound(str(error)) from error
    return providers


@contextmanager
def open_journal(cluster: Cluster, tell: Callable[[str], None]) -> Iterator[Journal]:
    """The cluster's journal; a damaged one is set aside."""
    from clusterctl.provision.journal.book import whole_journal

    journal = whole_journal(cluster.head_dir / "nodes.db", tell)
    try:
        yield journal
    finally:
        journal.close()


def _no_bootstrap(*_: Any) -> Mapping[str, Any]:
    raise ClusterctlError("`down` was about to start a node: this is a fault of clusterctl, please report it")
