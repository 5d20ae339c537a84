"""A spec file that the user named: as it holds in one place, or in each that it lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.spec.document import Document
    from clusterctl.spec.load import PlacedSpec
    from clusterctl.spec.model import ClusterSpec


@dataclass(frozen=True)
class SpecFile:
    """A spec as it was understood. `text` is the user's, or what it says for `place` ("aws/us-east-1") alone."""

    path: Path
    text: str
    spec: ClusterSpec
    located: Document  # knows the place of every key in the user's text
    place: str = ""

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.spec.cluster

    @property
    def each(self) -> tuple[SpecFile, ...]:
        """As of a file with one place."""
        return (self,)


@dataclass(frozen=True)
class SpecFiles:
    """The same for each place that the file lists, in its order, and at least one. `cheapest`: the cheapest is to be tried
    first, and not the first. `listed`: whether there is a list; else there is one place, and the text is the user's."""

    path: Path
    each: tuple[SpecFile, ...]
    cheapest: bool = False
    listed: bool = False

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.each[0].name

    def beginning(self, start: str) -> tuple[SpecFile, ...]:
        """The places that `start` stands for: all for "", those of a cloud, or one. Raises UsageError where there is none."""
        from clusterctl.spec.places import begins

        found = tuple(one for one in self.each if not start or begins(one.place, start))
        if not found:
            known = ", ".join(one.place for one in self.each)
            raise UsageError(f"--place {start}: {self.path} names no such place; there is {known}")
        return found


def read_spec(path: Path, place: str = "") -> SpecFile:
    """The spec in `path` for its only place, or the one that is named. Raises SpecError with every fault, UsageError where it
    lists several and none is named."""
    # Imported here: the models take longer to load than the rest of the command line.
    from clusterctl.spec.load import choose, parse_places, read_text

    text = read_text(path)
    return _file(path, choose(parse_places(text, str(path)), place, str(path)))


def read_places(path: Path) -> SpecFiles:
    """The spec in `path` for each place that it names; raises SpecError with every fault of any."""
    from clusterctl.spec.load import parse_places, read_text

    read = parse_places(read_text(path), str(path))
    return SpecFiles(path, tuple(_file(path, one) for one in read.each), read.order == "price", read.listed)


def _file(path: Path, one: PlacedSpec) -> SpecFile:
    if one.spec.ray is not None and one.spec.ray.requirements:
        one = _with_packages(path, one)
    return SpecFile(path, one.text, one.spec, one.located, one.place)


def _with_packages(path: Path, one: PlacedSpec) -> PlacedSpec:
    """What is in the requirements file is a part of the spec from here on: it is compared, kept and sent with it. Raises
    SpecError."""
    from dataclasses import replace

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from clusterctl.spec.faults import SpecError
    from clusterctl.spec.load import parse_spec
    from clusterctl.spec.requirements import RAY_ITSELF, read_requirements
    from clusterctl.spec.rewriting import with_packages

    assert one.spec.ray is not None
    name = one.spec.ray.requirements
    at = ("engine", "ray", "requirements")
    try:
        lines = read_requirements(path.absolute().parent / Path(name).expanduser())
    except UsageError as error:
        raise SpecError([one.located.fault(at, str(error))]) from error
    if any(canonicalize_name(Requirement(line).name) == "ray" for line in lines):
        what, fix = RAY_ITSELF
        raise SpecError([one.located.fault(at, f"{name}: {what.lower()}", fix)])
    text = with_packages(one.located, lines, f"{path.name} with the packages of {name}")
    return replace(one, text=text, spec=parse_spec(text, str(path)))
