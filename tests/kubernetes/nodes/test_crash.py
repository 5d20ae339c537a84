"""kill -9 wherever it can happen to a process that makes pods."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.kubernetes.provider import KubernetesProvider

from clusterctl.core.errors import UnknownOutcome
from tests.crash.story import (
    check_all_gone,
    check_no_double,
    die_once_everywhere,
    every_other_effect,
    run_story,
    running,
)
from tests.kubernetes.nodes.conftest import Spot
from tests.kubernetes.nodes.sky import KubernetesSky


@pytest.fixture
def sky(spot: Spot, tmp_path: Path) -> Iterator[KubernetesSky]:
    sky = KubernetesSky(tmp_path, spot.plane.api, spot.namespace)
    yield sky
    sky.close()


def test_pods_are_there_once_and_then_gone_whoever_is_killed_on_the_way(sky: KubernetesSky) -> None:
    died = die_once_everywhere(sky)
    kinds = {name.partition(": ")[2] for name in died}
    assert {"before create", "before terminate", "before sweep", "before POST making the object"} <= kinds
    for call in ("POST making the pod", "POST making the Secret", "POST making the ConfigMap", "DELETE ending the pod"):
        assert f"before {call}" in kinds
    assert {"before POST making the pod again", "before DELETE removing again"} <= kinds
    assert {name.partition(":")[0] for name in died} == {"start", "up", "scale-up", "scale-down", "down"}


def test_answers_that_are_lost_after_the_effect_leave_nothing(sky: KubernetesSky) -> None:
    with running(sky, lost=every_other_effect()) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        check_all_gone(sky, head)


def test_a_list_that_times_out_again_and_again_ends_no_pod(sky: KubernetesSky) -> None:
    """Ray's autoscaler once took a list that timed out for an empty cluster, and ended all of it."""
    with running(sky) as head:
        head.start()
        for _ in sky.turns():
            head.tick(3)
            if len(head.ready()) == 4:
                break
        before = {instance.id for instance in sky.living()}
        assert len(before) == 4
        provider = head.provider.inner
        assert isinstance(provider, KubernetesProvider)
        call, asked = provider._client.call, list[str]()

        def tired(method: str, path: str, what: str, *args: Any, **more: Any) -> Any:
            asked.append(method)
            raise UnknownOutcome(f"{what}: the API server did not answer in time")

        provider._client._pause = lambda _: None
        provider._client.call = tired  # type: ignore[method-assign]
        for _ in islice(sky.turns(), 30):
            head.tick(3)
        assert set(asked) == {"GET"} and {instance.id for instance in sky.living()} == before
        provider._client.call = call  # type: ignore[method-assign]
        head.provisioner.down()
        check_all_gone(sky, head)
