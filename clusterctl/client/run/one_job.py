"""What `run` makes of a spec: a cluster for one job, that ends itself should nobody be left to take it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clusterctl.client.registry import Registry, checked_name
from clusterctl.client.specfile import SpecFile, SpecFiles
from clusterctl.core.errors import Refused
from clusterctl.spec.document import compose
from clusterctl.spec.lifetime import lifetime_notes
from clusterctl.spec.load import parse_places
from clusterctl.spec.rewriting import rewritten
from clusterctl.spec.to_core import core_lifetime

DEFAULT: Mapping[str, str] = {"after_last_job": "10m", "idle": "30m"}  # the second, where no job ever came


def for_one_job(files: SpecFiles, name: str) -> SpecFiles:
    """The spec for a cluster of this name ("": its own), with a lifetime if it has none."""
    return replace(files, each=tuple(_for_one_job(one, name or one.name) for one in files.each))


def _for_one_job(one: SpecFile, name: str) -> SpecFile:
    added = {} if core_lifetime(one.spec) else DEFAULT
    if name == one.name and not added:
        return one
    checked_name(name)
    document = compose(one.text, str(one.path))
    text = rewritten(document, name=name, lifetime=added, comment=f"{one.path.name}, as `clusterctl run` started it")
    (placed,) = parse_places(text, str(one.path)).each
    return replace(one, text=text, spec=placed.spec)  # faults are still found where the user wrote them


def refuse_known(registry: Registry, name: str) -> None:
    """A cluster that somebody else uses, or whose jobs somebody may still want, is not taken down by a job of its own."""
    if name in registry.names():
        raise Refused(
            f"cluster {name!r} is known here already, and `run` takes its cluster down at the end: submit to that one "
            f"(`clusterctl submit -c {name}`), end it (`clusterctl down {name}`), or name this one: `run -c NAME`"
        )


def what_if_nobody_is_left(source: SpecFile) -> str:
    """What becomes of the cluster when this process, or this machine, dies."""
    (rules,) = lifetime_notes(source.spec)
    return f"should this command or its machine die, {rules}"
