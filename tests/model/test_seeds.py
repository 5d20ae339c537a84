"""A seed that fails on one machine must fail on another: its world may not depend on how that Python orders its sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SEEDS = 40
PROGRAM = f"""
import logging
from tests.model.test_dispatch import run
logging.disable(logging.CRITICAL)
print([run(seed) for seed in range({SEEDS})])
"""


def courses(hash_seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_same_seed_takes_the_same_course_in_every_process() -> None:
    assert courses("1") == courses("2")
