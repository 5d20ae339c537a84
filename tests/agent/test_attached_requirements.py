"""What Ray is told of a job's own packages: its workers are no children of the job's program."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clusterctl_runtime.engine.launch import EngineConfig, task_env
from clusterctl_runtime.wire import TaskSpec

CONFIG = EngineConfig.from_json({"role": "worker", "address": "127.0.0.1:6379", "token": "t"})
STATE = {"address": "127.0.0.1:6379", "token_path": "/none"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"pip": ["six"], "config": {"eager_install": False}}),
        ({"uv": ["rich"]}, {"uv": ["rich"]}),
        ({"config": {"eager_install": True}}, {"pip": ["six"], "config": {"eager_install": True}}),
    ],
)
def test_workers_get_them_where_one_starts_unless_the_job_says_otherwise(
    given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    task = TaskSpec("j-1/1/0", ["python"], runtime_env=given, requirements=["six"])
    attached = json.loads(task_env(CONFIG, STATE, task)["RAY_JOB_CONFIG_JSON_ENV_VAR"])
    assert attached["runtime_env"] == wanted
