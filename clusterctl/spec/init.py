"""`clusterctl init`: a spec to start from and a job that runs on it."""

from __future__ import annotations

import importlib.util
import os
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.spec.faults import did_you_mean
from clusterctl.spec.providers.registry import KINDS

# starter -> the provider that it is for
STARTERS = {name: kind for kind in KINDS.values() for name in kind.starters}


def write_starter(provider: str, directory: Path) -> list[Path]:
    """Writes `cluster.yaml` and `job.py` into `directory` (made if need be) and returns their paths. Overwrites
    nothing: raises UsageError naming what is in the way, and leaves no file of its own behind when it fails."""
    texts = starter_texts(provider, ray=importlib.util.find_spec("ray") is not None)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file: name a directory for cluster.yaml and job.py")
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


def starter_texts(name: str, *, ray: bool) -> dict[str, str]:
    """File name -> text of the starter `name`. `ray`: whether Ray is installed here: local clusters and containers need it."""
    if name not in STARTERS:
        near = did_you_mean(name, STARTERS) or f"there are {', '.join(STARTERS)}"
        raise UsageError(f"no starter named {name!r}: {near}")
    kind = STARTERS[name]
    own = name != kind.name  # one that is for an AI library says which Ray it wants, and gets it
    job = "plain" if kind.machine in ("process", "container") and not ray and not own else kind.starters[name]
    spec = _text("specs", f"{name}.yaml")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701  YAML
    return {
        "cluster.yaml": environment.from_string(spec).render(ray=ray),
        "job.py": _text("jobs", f"{job}.py"),
    }


def _text(*parts: str) -> str:
    return files("clusterctl_templates").joinpath("starters", *parts).read_text(encoding="utf-8")
