"""The head's objects: made through every death, and what its service account may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterctl_providers.base import (
    TAG_HEAD,
    CreateRequest,
    HeadMachine,
    PoolRequest,
    ProviderContext,
)
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.provider import KubernetesProvider
from clusterctl_providers.kubernetes.rights import OF_HEAD, rules

from clusterctl.core.model import Instance, Offer
from clusterctl.core.resources import Resources
from tests.kubernetes.head.cluster import PLURALS
from tests.support.cluster import wait_until
from tests.support.kubernetes.plane import ControlPlane

UID = "11111111-2222-4333-8444-555555555555"
HEAD = "clusterctl-demo-11111111-head"


class Died(BaseException):
    """This process, at that moment."""


@pytest.fixture
def namespace(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> str:
    made = control_plane.namespace("parts")
    control_plane.add_node(f"parts-{made}", cpu="4")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(made)))
    return made


def provider(directory: Path, **settings: Any) -> KubernetesProvider:
    bundle = directory / "agent.pyz"
    bundle.write_bytes(b"an agent")
    machine = HeadMachine(False, port=7420)
    there = {"image": "registry.test/python", **settings}
    return KubernetesProvider(
        ProviderContext("demo", UID, str(directory / "state"), there, head_machine=machine, agent_bundle=str(bundle))
    )


def request(role: str = "head", number: int = 1, cpus: float = 0.1) -> CreateRequest:
    resources = Resources.of({"CPU": cpus, "memory": 2.0**27})
    offer = Offer(role, "small", "on-demand", "", 0.0, resources)
    tags = {
        "clusterctl-cluster": "demo",
        "clusterctl-uid": UID,
        "clusterctl-node": f"{role}-{number}",
        "clusterctl-generation": "1",
    }
    pool = PoolRequest(role, {"name": role}, role)
    return CreateRequest(f"token-{role}-{number}", f"{role}-{number}", 1, offer, tags, {"heads": []}, pool)


def left(plane: ControlPlane, namespace: str) -> list[str]:
    found: list[str] = []
    for kind in PLURALS:
        root, _, plural = kind.partition(":")
        listed = plane.api.get(f"/{root}/namespaces/{namespace}/{plural}", labelSelector=f"clusterctl-uid={UID}")
        found += [f"{plural}/{one['metadata']['name']}" for one in listed["items"]]
    return found


def dying(monkeypatch: pytest.MonkeyPatch, number: int, *, before: bool) -> None:
    """At so many calls that change something, before or after they did."""
    call, seen = Client.call, [0]

    def counted(self: Client, method: str, *arguments: Any, **more: Any) -> Any:
        if method == "GET":
            return call(self, method, *arguments, **more)
        seen[0] += 1
        if before and seen[0] == number:
            raise Died
        answer = call(self, method, *arguments, **more)
        if not before and seen[0] == number:
            raise Died
        return answer

    monkeypatch.setattr(Client, "call", counted)


def test_a_head_is_made_and_removed_through_every_death(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each change that `up` and `down` make there, before it and after it: the next one of them goes on."""

    def make() -> None:
        (made,) = provider(tmp_path).create([request(number=number)])
        assert isinstance(made, Instance), made
        assert (made.id, made.node_id, dict(made.tags)[TAG_HEAD]) == (f"{HEAD}-0", f"head-{number}", "here")
        assert made.address.startswith("10.0.0.")

    def remove() -> None:
        place = provider(tmp_path)
        place.terminate([f"{HEAD}-0"])
        assert place.sweep() == []

    for number in range(1, 30):
        died = 0
        for before in (True, False):
            with monkeypatch.context() as patch:
                dying(patch, number, before=before)
                try:
                    make()
                except Died:
                    died += 1
        make()
        assert len([one for one in left(control_plane, namespace) if one.startswith("statefulsets/")]) == 1
        with monkeypatch.context() as patch:
            dying(patch, number, before=number % 2 == 0)
            try:
                remove()
            except Died:
                died += 1
        remove()
        wait_until(lambda: not left(control_plane, namespace), what="nothing is left")
        if not died:
            return
    raise AssertionError("it never came to its end without a death")


@pytest.fixture
def as_head(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """From now on the test's calls are those of the head's service account."""
    provider(tmp_path).create([request()])
    account = control_plane.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{HEAD}")
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account['metadata']['name']}/token"
    token = control_plane.api.create(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    config = yaml.safe_load(control_plane.kubeconfig(namespace).read_text())
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "as-head").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "as-head"))
    yield f"{namespace}:{HEAD}"


def test_the_head_may_do_what_it_does_and_nothing_else(
    control_plane: ControlPlane, as_head: str, tmp_path: Path
) -> None:
    """All that a head asks of its provider, as its service account; what the API server wrote down of it is its Role."""
    (tmp_path / "there").mkdir()
    context = replace(provider(tmp_path / "there")._context, head_machine=None)
    (tmp_path / "there" / "agent.pyz").write_bytes(b"another agent")
    clock = [0.0]
    place = KubernetesProvider(context, lambda: clock[0])
    made = place.create([request("worker", 1), request("worker", 2, cpus=1e6)])
    assert all(isinstance(one, Instance) for one in made), made
    ids = [one.id for one in made if isinstance(one, Instance)]
    wait_until(
        lambda: "Insufficient" in str(place.list()) or "nodes are available" in str(place.list()),
        what="one fits nowhere",
    )
    clock[0] += 100.0
    (scope,) = place.list()
    assert scope.complete, scope.error
    assert set(place.look_up([*ids, f"{HEAD}-0"])) == {*ids, f"{HEAD}-0"}
    place.console_log(ids[0])
    place.terminate([*ids, f"{HEAD}-0"])
    granted = {
        (group, name, verb) for rule in rules(OF_HEAD)
        for group in rule["apiGroups"] for name in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip
    everybody = {one for one in control_plane.verbs_of(as_head) if one[1] != "selfsubjectaccessreviews"}
    beyond = {
        ("", "nodes", "list"),
        ("", "pods", "list"),
    }  # of all namespaces: asked for, and no harm where it is refused
    assert everybody - beyond == granted - beyond
    assert ("", "pods", "list") in granted


def test_a_head_whose_pod_is_refused_says_by_whom(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    control_plane.api.create(path, {"metadata": {"name": "no-room"}, "spec": {"hard": {"pods": "0"}}})
    wait_until(lambda: "hard" in control_plane.api.get(f"{path}/no-room").get("status", {}), what="the quota in force")
    place = provider(tmp_path)
    (made,) = place.create([request()])
    assert isinstance(made, Instance), made

    def detail() -> str:
        return next(one.detail for one in place.list()[0].instances if one.id == f"{HEAD}-0")

    wait_until(lambda: "exceeded quota: no-room" in detail(), what="its reason in the server's words")
    place.terminate([made.id])
    assert place.sweep() == []


def test_a_quota_without_room_for_the_heads_own_container_is_told_first(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    control_plane.api.create(path, {"metadata": {"name": "small"}, "spec": {"hard": {"limits.cpu": "2"}}})
    wait_until(lambda: "hard" in control_plane.api.get(f"{path}/small").get("status", {}), what="the quota in force")
    pools = [PoolRequest(role, {"name": role, "resources": {"CPU": 1}}, role) for role in ("head", "worker")]
    told = [(one.pool, one.key) for one in provider(tmp_path).review(pools)]
    assert told == [("head", "resources")], "a pod of a node alone has room"
