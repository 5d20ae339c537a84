"""`clusterctl init`: a spec to start from and a job that runs on it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.spec.faults import did_you_mean
from clusterctl.spec.providers.registry import KINDS

# starter -> the provider that it is for
STARTERS = {name: kind for kind in KINDS.values() for name in kind.starters}


def write_starter(provider: str, directory: Path) -> list[Path]:
    """Writes `cluster.yaml` and `job.py` into `directory`, whose name is the cluster's, and returns their paths. Raises
    UsageError."""
    texts = starter_texts(provider, ray=importlib.util.find_spec("ray") is not None, cluster=cluster_name(directory))
    return write_new(texts, directory)


def write_new(texts: Mapping[str, str], directory: Path) -> list[Path]:
    """Writes files with these names, all or none of them, into `directory` (made if need be), and returns their paths. Raises
    UsageError naming what is in the way."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file: name a directory for {' and '.join(texts)}")
    present = [str(directory / name) for name in texts if os.path.lexists(directory / name)]
    if present:
        raise UsageError(
            f"{' and '.join(present)} would be overwritten: nothing was written; "
            "name another directory, or move what is there away"
        )
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (directory / name).open("x", encoding="utf-8") as file:
                written.append(directory / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ClusterctlError(f"cannot write into {directory}: {error.strerror}; nothing was left there") from error
    return written


def cluster_name(directory: Path) -> str:
    """The name of the directory as that of a cluster; "" where nothing of it can be one."""
    plain = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower())
    return plain.lstrip("-0123456789")[:40].rstrip("-")


def starter_texts(name: str, *, ray: bool, cluster: str = "") -> dict[str, str]:
    """File name -> text of the starter `name`. `ray`: whether Ray is installed here: local clusters and containers need it.
    `cluster`: the cluster's name, "" for the starter's own."""
    if name not in STARTERS:
        near = did_you_mean(name, STARTERS) or f"there are {', '.join(STARTERS)}"
        raise UsageError(f"no starter named {name!r}: {near}")
    kind = STARTERS[name]
    own = name != kind.name  # one that is for an AI library says which Ray it wants, and gets it
    job = "plain" if kind.machine in ("process", "container") and not ray and not own else kind.starters[name]
    spec = _text("specs", f"{name}.yaml")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701  YAML
    text = environment.from_string(spec).render(ray=ray)
    return {
        "cluster.yaml": re.sub(r"(?m)^cluster: .*$", f"cluster: {cluster}", text, count=1) if cluster else text,
        "job.py": _text("jobs", f"{job}.py"),
    }


def _text(*parts: str) -> str:
    return files("clusterctl_templates").joinpath("starters", *parts).read_text(encoding="utf-8")
