"""What a real API server and scheduler refuse, each with its type, its sentence, and nothing left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.kubernetes.provider import KubernetesProvider

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.kubernetes.nodes.conftest import Spot
from tests.kubernetes.nodes.world import HERE, IMAGE, SLEEPER, KubernetesWorld, as_user
from tests.support.cluster import wait_until


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(world: KubernetesWorld, clock: Clock) -> Iterator[Callable[..., KubernetesProvider]]:
    made: list[KubernetesProvider] = []

    def open_one(**settings: Any) -> KubernetesProvider:
        state = str(world.state_dir(world.uid))
        told = {**HERE, **settings}
        context = ProviderContext(f"c-{world.uid[:8]}", world.uid, state, told, agent_argv=SLEEPER)
        made.append(KubernetesProvider(context, clock))
        return made[-1]

    yield open_one
    for provider in made:
        provider.close()


def pool(name: str = "cpu", **spec: Any) -> PoolRequest:
    return PoolRequest(name, {"resources": {"CPU": 1}, "orphan_timeout": 900.0, **spec})


def create(world: KubernetesWorld, provider: KubernetesProvider, wanted: PoolRequest, node: str = "cpu-1") -> Any:
    world.pool = wanted
    return provider.create([world.request(provider, node)])[0]


def shown(provider: KubernetesProvider) -> Instance:
    (scope,) = provider.list()
    assert scope.complete, scope.error
    (instance,) = scope.instances
    return instance


def occupy(spot: Spot, node: str) -> None:
    """All of that node, by a pod that is nobody's."""
    container = {"name": "x", "image": IMAGE, "resources": {"requests": {"cpu": "3500m"}}}
    spec = {"nodeName": node, "containers": [container]}
    spot.plane.api.create(f"{spot.path}/pods", {"metadata": {"name": "other"}, "spec": spec})


# ---------------------------------------------------------------- no node for it


def test_a_pod_that_fits_nowhere_has_its_grace_and_is_then_refused_in_the_schedulers_words(
    spot: Spot, world: KubernetesWorld, opened: Callable[..., KubernetesProvider], clock: Clock
) -> None:
    spot.plane.add_node(f"small-{spot.namespace}", labels={"mine": spot.namespace})
    occupy(spot, f"small-{spot.namespace}")
    provider = opened()
    made = create(world, provider, pool(node_selector={"mine": spot.namespace}, resources={"CPU": 2}))
    assert isinstance(made, Instance) and made.state == "pending"
    wait_until(lambda: "nodes are available" in shown(provider).detail, what="the scheduler's word")
    assert shown(provider).state == "pending"
    clock.now += 9
    assert shown(provider).state == "pending"
    clock.now += 2
    refused = shown(provider)
    assert (refused.state, refused.refused) == ("stopped", NoCapacity.code)
    assert "Insufficient cpu" in refused.detail
    assert provider.look_up([made.id])[made.id] == refused
    provider.terminate([made.id])
    assert provider.list()[0].instances == ()
    spot.plane.remove_node(f"small-{spot.namespace}")


@pytest.mark.parametrize("reason", ["TriggeredScaleUp", "Nominated"])
def test_who_says_that_a_node_is_on_its_way_is_waited_for_a_quarter_of_an_hour(
    spot: Spot, world: KubernetesWorld, opened: Callable[..., KubernetesProvider], clock: Clock, reason: str
) -> None:
    name = f"grown-{spot.namespace}-{reason.lower()}"
    spot.plane.add_node(name, labels={"mine": spot.namespace, "karpenter.sh/nodepool": "default"})
    occupy(spot, name)
    provider = opened()
    made = create(world, provider, pool(node_selector={"mine": spot.namespace}, resources={"CPU": 2}))
    wait_until(lambda: "nodes are available" in shown(provider).detail, what="the scheduler's word")
    pod = spot.plane.api.get(f"{spot.path}/pods/{made.id}")
    about = {"kind": "Pod", "namespace": spot.namespace, "name": made.id, "uid": pod["metadata"]["uid"]}
    event = {"metadata": {"name": f"e-{reason.lower()}"}, "involvedObject": about, "reason": reason, "message": "1->2"}
    spot.plane.api.create(f"{spot.path}/events", event)
    clock.now += 31  # more than the grace where somebody seems to add nodes
    waiting = shown(provider)
    assert (waiting.state, waiting.queued) == ("pending", True) and reason in waiting.detail
    clock.now += 880
    refused = shown(provider)
    assert (refused.state, refused.refused) == ("stopped", NoCapacity.code) and "1->2" in refused.detail
    spot.plane.remove_node(name)


def test_a_pool_that_no_node_can_ever_take_is_refused_before_a_pod_is_made(
    world: KubernetesWorld, opened: Callable[..., KubernetesProvider], spot: Spot
) -> None:
    provider = opened()
    wanted = pool(resources={"CPU": 1000})
    (offer,) = provider.offers(wanted)
    assert "can ever take a pod of pool cpu" in offer.closed and "which want 1000" in offer.closed
    refused = create(world, provider, wanted)
    assert type(refused) is BadRequest and offer.closed in str(refused)
    assert spot.plane.api.get(f"{spot.path}/pods")["items"] == []
    (offer,) = provider.offers(pool(node_selector={"there": "is-none"}))
    assert "has the labels" in offer.closed


# ---------------------------------------------------------------- rights, quotas, admission


def test_a_quota_is_refused_by_its_name(
    spot: Spot, world: KubernetesWorld, opened: Callable[..., KubernetesProvider]
) -> None:
    quota = {"metadata": {"name": "small-one"}, "spec": {"hard": {"requests.cpu": "1"}}}
    spot.plane.api.create(f"{spot.path}/resourcequotas", quota)

    def counted() -> bool:
        return "hard" in spot.plane.api.get(f"{spot.path}/resourcequotas/small-one").get("status", {})

    wait_until(counted, what="the quota in force")
    refused = create(world, opened(), pool(resources={"CPU": 2}))
    assert isinstance(refused, QuotaExceeded) and refused.quota == "small-one"
    assert "requested: requests.cpu=2" in str(refused)
    assert spot.plane.api.get(f"{spot.path}/secrets", labelSelector=f"clusterctl-uid={world.uid}")["items"] == []


def test_a_right_that_is_missing_is_named(
    spot: Spot, world: KubernetesWorld, opened: Callable[..., KubernetesProvider]
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["get", "list", "create", "delete"]}]
    with as_user(spot.plane.kubeconfig_of(spot.namespace, rules)):
        provider = opened()
        refused = create(world, provider, pool())
        assert isinstance(refused, AuthFailed)
        assert f"the right to create secrets in namespace {spot.namespace}" in str(refused)
        listed = spot.plane.api.get(f"{spot.path}/pods")["items"]
        assert all(one["metadata"].get("deletionTimestamp") for one in listed), "no pod waits for what never comes"
        (offer,) = provider.offers(pool())
        assert offer.price_source.startswith("the scheduler decides") and not offer.closed
    with as_user(spot.plane.kubeconfig_of(spot.namespace, [])):
        (scope,) = opened().list()
        assert not scope.complete and "the right to list pods" in scope.error


def test_a_service_account_or_a_priority_that_is_not_there_is_a_wrong_request(
    world: KubernetesWorld, opened: Callable[..., KubernetesProvider]
) -> None:
    refused = create(world, opened(service_account="nobody"), pool())
    assert type(refused) is BadRequest and 'serviceaccount "nobody" not found' in str(refused)
    refused = create(world, opened(priority_class="urgent"), pool(), "cpu-2")
    assert type(refused) is BadRequest and "urgent" in str(refused)


def test_an_image_that_cannot_be_pulled_is_told_in_the_kubelets_words(
    world: KubernetesWorld, opened: Callable[..., KubernetesProvider]
) -> None:
    provider = opened()
    create(world, provider, pool(image="registry.test/nowhere:1"))
    wait_until(lambda: shown(provider).state == "stopped", what="the kubelet's word")
    refused = shown(provider)
    assert refused.refused == BadRequest.code
    assert refused.detail == "ErrImagePull: manifest for registry.test/nowhere:1 not found"


# ---------------------------------------------------------------- who does not get there


def test_a_context_that_is_not_there_is_told_with_those_that_are(
    opened: Callable[..., KubernetesProvider], world: KubernetesWorld
) -> None:
    (scope,) = opened(context="no-such").list()
    assert not scope.complete and "'no-such'" in scope.error and "it has: test" in scope.error


def test_credentials_that_lapsed_are_told(opened: Callable[..., KubernetesProvider], tmp_path: Path) -> None:
    text = Path(os.environ["KUBECONFIG"]).read_text()
    lines = [line for line in text.splitlines() if "client-" not in line]
    (tmp_path / "config").write_text("\n".join(lines))
    with as_user(tmp_path / "config"):
        (scope,) = opened().list()
    assert not scope.complete and scope.code == AuthFailed.code, scope.error


# ---------------------------------------------------------------- looks


def test_a_list_whose_second_page_is_not_to_be_had_is_incomplete(
    world: KubernetesWorld, opened: Callable[..., KubernetesProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = opened()
    world.pool = pool()
    made = provider.create([world.request(provider, f"cpu-{n}") for n in range(1, 6)])
    assert all(isinstance(one, Instance) for one in made)
    monkeypatch.setattr("clusterctl_providers.kubernetes.client.PAGE", 2)
    call, asked = provider._client.call, []

    def tired(method: str, path: str, what: str, *args: Any, **more: Any) -> Any:
        asked.append(path)
        if (more.get("query") or {}).get("continue"):
            raise UnknownOutcome("the list timed out")
        return call(method, path, what, *args, **more)

    provider._client.call = tired  # type: ignore[method-assign]
    provider._client._pause = lambda _: None
    (scope,) = provider.list()
    assert not scope.complete and len(scope.instances) == 2 and "timed out" in scope.error
    provider._client.call = call  # type: ignore[method-assign]
    (scope,) = provider.list()
    assert scope.complete and len(scope.instances) == 5


def test_looks_cost_the_same_number_of_calls_however_many_pods_there_are(
    world: KubernetesWorld, opened: Callable[..., KubernetesProvider]
) -> None:
    provider = opened()
    world.pool = pool()
    counts: list[int] = []
    call = provider._client.call

    def counted(*args: Any, **more: Any) -> Any:
        counts[-1] += 1
        return call(*args, **more)

    provider._client.call = counted  # type: ignore[method-assign]
    for number in (1, 40):
        counts.append(0)
        provider.create([world.request(provider, f"cpu-{n}") for n in range(1, number + 1)])
        counts[-1] = 0
        assert len(provider.list()[0].instances) == number
    assert counts == [1, 1]
