"""`image dockerfile`: the file that makes a container image with what nodes would otherwise install one by one.

What a spec says may hold secrets (`env`), and what an image is made with can be read by all who have it: of the environment
only what names package indexes and proxies goes in, as build arguments, and none with a password.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clusterctl_providers.cloud.image_recipe import with_password
from clusterctl_runtime.agent.preparing.in_image import VARIABLE, noted
from clusterctl_runtime.engine.images import default_image

from clusterctl.client.images.build import recipe_of
from clusterctl.core.errors import UsageError
from clusterctl.spec.installers import installers, is_installer

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec
    from clusterctl.spec.pool import Pool

# Debian's and Ubuntu's Python comes without pip, and refuses it where it is a person's machine.
_PIP = "python3 -m pip --version || { apt-get update && apt-get install -y --no-install-recommends python3-pip; }"
_INSTALL = "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir"


@dataclass(frozen=True)
class Dockerfile:
    """`requirements` as pip takes them; `setup` are the commands that the image has run; `left_out` says why it has not run
    those of the spec, "" where it has."""

    pool: str
    base: str
    requirements: tuple[str, ...]
    setup: tuple[str, ...]
    left_out: str
    text: str


def dockerfile(spec: ClusterSpec, pool: str = "", base: str = "") -> Dockerfile:
    """Of `pool`, "" for the first. `base`: the image to start from, "" for what its nodes would start from. Raises UsageError
    where there is nothing to put into an image, or a password that must not be in one."""
    chosen = _pool(spec, pool)
    requirements = recipe_of(spec, chosen.name).requirements if spec.ray is not None else ()
    commands = (*spec.setup, *chosen.setup)
    left_out = _needs(spec, chosen) if commands else ""
    setup = () if left_out else commands
    if not (requirements or setup):
        why = f"its setup commands may need {left_out}" if left_out else "there is no engine and no setup command"
        raise UsageError(f"an image would spare nodes of pool {chosen.name} nothing: {why}")
    base = base or _base(spec, chosen)
    lines = [*_heading(spec, chosen), f"FROM {base}", *_arguments(spec, chosen)]
    if requirements:
        lines += [f"RUN {_PIP}", f"RUN {_INSTALL} {shlex.join(requirements)}"]
    if left_out:
        lines.append(f"# The setup commands run on each node as before: they may need {left_out}.")
    lines += [f"RUN {json.dumps(['bash', '-lc', command])}" for command in setup]
    if setup:
        lines.append("# Nodes pass these commands over, as long as the spec's are the same or begin with the same.")
        lines.append(f"ENV {VARIABLE}={noted(setup)}")
    return Dockerfile(chosen.name, base, requirements, setup, left_out, "\n".join(lines) + "\n")


def _heading(spec: ClusterSpec, pool: Pool) -> list[str]:
    return [
        f"# What nodes of pool {pool.name} of cluster {spec.cluster} would otherwise install. Build it with",
        "#     docker build -t NAME - < Dockerfile",
        "# and write `image: NAME` into the pool and the head: Ray's Python must be the same on all nodes.",
    ]


def _arguments(spec: ClusterSpec, pool: Pool) -> list[str]:
    given = installers(spec, pool.name)
    if name := with_password(given):
        raise UsageError(
            f"{name} has a password in its address, which everybody who has the image could read: use an index that needs none, "
            "or give it to `docker build` as a secret, in a Dockerfile of your own"
        )
    return [f"ARG {name}={shlex.quote(value)}" for name, value in sorted(given.items())]


def _pool(spec: ClusterSpec, name: str) -> Pool:
    if not name:
        return spec.pools[0]
    found = next((pool for pool in spec.pools if pool.name == name), None)
    if found is None:
        raise UsageError(f"no pool is named {name!r}: there are {', '.join(pool.name for pool in spec.pools)}")
    return found


def _base(spec: ClusterSpec, pool: Pool) -> str:
    """A machine image is none for containers."""
    named = ""
    if spec.kind_of(pool).machine in ("container", "pod"):
        named = pool.image or str(spec.settings_of(pool).get("image") or "")
    return named or default_image(None)


def _needs(spec: ClusterSpec, pool: Pool) -> str:
    """What a node has for its setup commands and a build has not; "" for nothing."""
    more = any(not is_installer(name) for name in (*spec.env, *pool.env))
    wanted = {"files": spec.files, "mounts": spec.mounts or pool.mounts, "env": more}
    needs = [f"the spec's `{name}`" for name, there in wanted.items() if there]
    return " and ".join(needs)
