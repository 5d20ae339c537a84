"""The engine environment of the tests of the AI libraries: Ray with Train, Tune and Data, PyTorch for CPUs, Transformers, Optuna.

Made once for all test runs and test processes, as `up` would make it, and kept below the cache directory under the digest of its
wheels: about 440 MB of wheels, of which PyTorch is 190, and 1.4 GB unpacked. It takes a package index, which tests in a network
namespace of their own do not reach: `python -m tests.support.ai_engine` makes it beforehand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import url2pathname

from clusterctl_runtime.engine.index import uv_environment
from clusterctl_runtime.engine.installing import Installation
from clusterctl_runtime.engine.requirements import plain_requirements
from clusterctl_runtime.engine.wheelhouse import Wheelhouse, environment_of

from tests.support.docker_engine import cache_directory
from tests.support.wheel_index import wanted

RAY = "2.60.0"
EXTRAS = ("data", "serve", "train", "tune")
PACKAGES = ("torch==2.13.0", "transformers", "accelerate", "optuna")


def kept_engines() -> Path:
    """The directory with it, to be the `engines` of a home: `up` with EXTRAS and PACKAGES finds it there and asks no index."""
    root = cache_directory() / "engines"
    root.mkdir(exist_ok=True)
    want = wanted(*EXTRAS, ray=RAY, packages=plain_requirements(PACKAGES))
    house = Wheelhouse(root)
    with _torch_for_cpus():
        wheels = house.get(want, print)
    asyncio.run(Installation(root, environment_of(want, wheels), None, lambda text: None).ensure())
    return root


@contextmanager
def _torch_for_cpus() -> Iterator[None]:
    """What PyPI has brings gigabytes of CUDA: a directory that uv or pip is told has another one, else PyTorch's own index."""
    places = uv_environment().get("UV_FIND_LINKS", "").replace(",", " ").split()
    directories = [Path(url2pathname(place.removeprefix("file://"))) for place in places]
    if any(list(directory.glob("torch-*+cpu-*.whl")) for directory in directories) or "UV_TORCH_BACKEND" in os.environ:
        yield
        return
    os.environ["UV_TORCH_BACKEND"] = "cpu"
    try:
        yield
    finally:
        del os.environ["UV_TORCH_BACKEND"]


if __name__ == "__main__":
    print(kept_engines())
