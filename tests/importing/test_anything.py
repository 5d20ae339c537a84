"""Whatever stands in a file, it becomes a spec or a sentence with a place."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from clusterctl.cli.verbs.spec_files import known_names
from clusterctl.core.errors import UsageError
from clusterctl.importing.given import read_given
from clusterctl.importing.paths import Moved
from clusterctl.importing.read import convert
from clusterctl.spec.load import parse_places
from tests.importing.ray_clusters import AWS, GCP, HOSTS
from tests.importing.sky_tasks import TASKS
from tests.importing.test_kuberay import cluster
from tests.kuberay.examples import example, samples

OTHERS: tuple[Any, ...] = (
    None, "", "text", "1", "yes", -1, 0, 1.5, 10**40, True, [], {}, ["a"], [{}], [[1]], {"a": None}, {"a": {"b": ["c"]}},
    "a: b\n# c", "{", "*", "tpu-v4-8", "1Gi", "nan",
)  # fmt: skip
BASES: dict[str, Any] = {
    "aws": yaml.safe_load(AWS),
    "gcp": yaml.safe_load(GCP),
    "hosts": yaml.safe_load(HOSTS),
    **{f"task {name}": yaml.safe_load(TASKS[name]) for name in ("nodes", "any of", "service")},
    "RayCluster": cluster(),
    "RayJob": example("RayJob"),
    "RayService": samples()["ray-service.sample.yaml"][0],
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        yield (*path, step)
        yield from paths(each, (*path, step))


def changed(base: Any, path: tuple[Any, ...], value: Any) -> Any:
    whole = copy.deepcopy(base)
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return whole


@pytest.mark.parametrize("name", BASES)
def test_a_file_with_one_part_replaced_by_anything_is_a_spec_or_refused_with_its_place(name: str) -> None:
    base, chosen = BASES[name], random.Random(name)
    every = list(paths(base))
    for path in chosen.sample(every, min(len(every), 12)):
        for value in chosen.sample(OTHERS, 2):
            text = yaml.safe_dump(changed(base, path, value), sort_keys=False)
            try:
                found = convert(text, "f.yaml", Moved("/", "/"), read_given(""), "x", known_names)
            except UsageError as error:
                assert str(error).startswith("f.yaml:") and "cluster.yaml" not in str(error), (path, value, str(error))
            else:
                assert parse_places(found.texts["cluster.yaml"])
