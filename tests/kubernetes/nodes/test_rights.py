"""The Role that is asked for is the one that is used: no verb more, no verb less."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.base import ProviderContext
from clusterctl_providers.kubernetes.provider import KubernetesProvider
from clusterctl_providers.kubernetes.rights import NEEDED, rules

from clusterctl.core.model import Instance
from tests.kubernetes.nodes.conftest import Spot
from tests.kubernetes.nodes.world import HERE, KubernetesWorld, as_user
from tests.support.cluster import wait_until

VERBS = {"POST": "create", "DELETE": "delete", "GET": "get"}
BEYOND = {"version", "namespaces", "nodes", "storageclasses", "persistentvolumeclaims", "selfsubjectaccessreviews"}


def used(method: str, path: str) -> tuple[str, str]:
    """(resource, verb), as RBAC has them."""
    parts = path.strip("/").split("/")
    if len(parts) > 4 and parts[2] == "namespaces":
        resource = parts[4] if len(parts) < 7 else f"{parts[4]}/{parts[6]}"
        verb = VERBS[method] if method != "GET" or len(parts) > 5 else "list"
        return resource, verb
    return parts[-1] if parts[-1] in BEYOND else parts[2] if len(parts) > 2 else parts[-1], VERBS[method]


def test_a_whole_life_uses_each_verb_of_the_role_and_needs_no_other(spot: Spot, world: KubernetesWorld) -> None:
    seen: set[tuple[str, str]] = set()
    bundle = world.directory / "agent.pyz"
    bundle.write_bytes(b"an agent")
    with as_user(spot.plane.kubeconfig_of(spot.namespace, rules())):
        state = str(world.state_dir(world.uid))
        told = ProviderContext("demo", world.uid, state, dict(HERE), agent_bundle=str(bundle))
        provider = KubernetesProvider(told)
        send = provider._client._send

        def recorded(method: str, path: str, *args: Any, **more: Any) -> Any:
            seen.add(used(method, path))
            return send(method, path, *args, **more)

        provider._client._send = recorded  # type: ignore[method-assign]
        world.uid = told.uid
        requests = [world.request(provider, name) for name in ("cpu-1", "cpu-2")]
        made = provider.create(requests)
        assert all(isinstance(one, Instance) for one in made), made
        ids = [one.id for one in made if isinstance(one, Instance)]
        wait_until(lambda: {one.state for one in provider.list()[0].instances} == {"running"}, what="both running")
        assert len(provider.look_up(ids)) == 2 and provider.find_clusters() == [("demo", world.uid, 2)]
        provider.console_log(ids[0])
        provider._patience._events(("TriggeredScaleUp",))
        assert provider.review([world.pool]) == []
        provider.terminate(ids)
        wait_until(lambda: provider.list()[0].instances == (), what="none left")
        assert provider.sweep() == []
        provider.close()
    needed = {(name, verb) for name, verbs in NEEDED.items() for verb in verbs}
    beyond = {one for one in seen if one[0] in BEYOND}
    assert seen - beyond == needed, "what is asked for beyond is refused here, and does no harm"


def test_who_has_that_role_removes_what_a_lost_home_has_left(spot: Spot, world: KubernetesWorld) -> None:
    bundle = world.directory / "agent.pyz"
    bundle.write_bytes(b"an agent")
    with as_user(spot.plane.kubeconfig_of(spot.namespace, rules())):
        state = str(world.state_dir(world.uid))
        maker = KubernetesProvider(ProviderContext("demo", world.uid, state, dict(HERE), agent_bundle=str(bundle)))
        (made,) = maker.create([world.request(maker, "cpu-1")])
        maker.close()
        assert isinstance(made, Instance), made
        finder = KubernetesProvider(ProviderContext("demo", world.uid, str(world.directory / "elsewhere"), {}))
        assert finder.find_clusters() == [("demo", world.uid, 1)]
        assert [(one.complete, [node.id for node in one.instances]) for one in finder.list()] == [(True, [made.id])]
        finder.terminate([made.id])
        wait_until(lambda: finder.list()[0].instances == (), what="none left")
        assert finder.sweep() == [] and finder.find_clusters() == []
        finder.close()
