"""`up` of a cluster that may be anywhere: one place after the other, until one has what its pools need.

Before a place is tried, what can be known of it is looked up (survey). A place that is tried and lacks a machine is passed
over: all that was made there is removed, by `down` itself, and proven to be gone before the next one is tried. Once the
machines of every pool's min are there, the place is the cluster's as long as it lives.

What is on disk says at every moment where something may be: `cluster.json` that a place is being tried, the mark of `down`
that it is being left. An `up` that died goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from clusterctl.client.down.take_down import begin_down, is_half_down, take_down
from clusterctl.client.head import process
from clusterctl.client.head.api import Api
from clusterctl.client.place import where, where_of
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import SpecFile, SpecFiles
from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.client.up.survey import in_order, look, look_at_all
from clusterctl.core.errors import ClusterctlError, Refused


@dataclass
class Placing:
    """`start`: the beginning of the names of the places that may be tried, "" for all. `passed` grows: (place, why)."""

    registry: Registry
    files: SpecFiles
    start: str
    tell: Callable[[str], None]
    passed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def candidates(self) -> Iterator[tuple[SpecFile, bool]]:
        """(place, whether it is a trial) one by one: whoever takes the next one has `passed_over` the last. Raises Refused where
        the cluster is in none of these places."""
        chosen = self.files.beginning(self.start)
        if not self.files.listed:
            yield chosen[0], False
            return
        begun = self._begun(chosen)
        if begun is not None:
            yield begun
            if not begun[1]:
                return
        rest = [one for one in chosen if begun is None or one is not begun[0]]
        yield from ((one, True) for one in self._worth_a_try(rest))

    def pass_over(self, source: SpecFile, error: Exception) -> None:
        """Leaves nothing of the cluster in that place. Raises ClusterctlError where that cannot be proven, or where somebody
        has given it work already."""
        self._note(source.place, str(error))
        if source.name not in self.registry.names():
            return
        cluster = self.registry.load(source.name)
        if _has_work(cluster):
            self.settle(source)
            raise ClusterctlError(
                f"{error}\n  it was given jobs meanwhile, so cluster {cluster.name!r} stays in {source.place}"
            )
        self._leave(cluster, source.place)

    def is_open(self, source: SpecFile) -> bool:
        """Whether the cluster may still be had elsewhere."""
        return source.name not in self.registry.names() or self.registry.load(source.name).trying

    def settle(self, source: SpecFile) -> None:
        """That place has what is needed."""
        self.registry.settle(self.registry.load(source.name))
        self.tell(f"cluster {source.name} has its machines in {source.place}, and stays there from now on")

    def nowhere(self) -> ClusterctlError:
        """What to say when all were passed over."""
        lines = [f"no place has what cluster {self.files.name!r} needs at this moment; nothing of it is left in any"]
        lines += [f"  {place}: {_indented(why)}" for place, why in self.passed]
        return NotToBeHad("\n".join([*lines, "  `up` again tries them anew"]))

    # ------------------------------------------------------------ what an earlier `up` has left

    def _begun(self, chosen: tuple[SpecFile, ...]) -> tuple[SpecFile, bool] | None:
        """Where the cluster is, or where a trial was interrupted."""
        name = self.files.name
        if name not in self.registry.names():
            return None
        cluster = self.registry.load(name)
        if is_half_down(cluster):
            self.tell(f"an earlier command was about to leave {cluster.place}: that is finished first")
            self._leave(cluster, cluster.place)
            return None
        here = where(cluster)
        found = next((one for one in chosen if where_of(one) == here), None)
        if not cluster.trying:
            return self._stays(cluster, found) if here is not None else None
        if found is None:
            self._note(cluster.place, "it was tried by an earlier `up`, and is none of the places for this one")
            self._leave(cluster, cluster.place)
            return None
        self.tell(f"{found.place} was being tried by an earlier `up`, which goes on")
        return found, True

    def _stays(self, cluster: Cluster, found: SpecFile | None) -> tuple[SpecFile, bool]:
        how = f"to have it elsewhere, `clusterctl down {cluster.name}` first"
        if found is not None:
            self.tell(f"cluster {cluster.name} is in {found.place} and stays there; {how}")
            return found, False
        wanted = f"`--place {self.start}` asks for another" if self.start else f"{self.files.path} lists that no more"
        raise Refused(f"cluster {cluster.name!r} is in {cluster.place} and stays there, but {wanted}: {how}")

    # ------------------------------------------------------------ one after the other

    def _worth_a_try(self, sources: list[SpecFile]) -> Iterator[SpecFile]:
        """In the order of the spec, without those that are known to be of no use. Where prices decide, all are asked first."""
        if self.files.cheapest and len(sources) > 1:
            self.tell(f"asking {len(sources)} places for what they have, and its price")
        looks = iter(in_order(look_at_all(sources), cheapest=True)) if self.files.cheapest else map(look, sources)
        for one in looks:
            if one.out:
                self._note(one.place, "; ".join(one.out))
                continue
            self.tell(f"trying {one.place}: ${one.per_hour or 0.0:.4g}/h, at most ${one.at_most or 0.0:.4g}/h")
            yield one.source

    def _note(self, place: str, why: str) -> None:
        self.passed.append((place, why))
        self.tell(f"{place} is passed over: {_indented(why)}")

    def _leave(self, cluster: Cluster, place: str) -> None:
        begin_down(cluster)
        self.tell(f"removing what was made in {place}")
        try:
            take_down(self.registry, cluster, self.tell)
        except ClusterctlError as error:
            raise ClusterctlError(f"{error}\n  no other place is tried while something is left in {place}") from error
        self.tell(f"nothing is left in {place}")


def _has_work(cluster: Cluster) -> bool:
    """Whether its head has a job in its books, whatever became of that: its log would be lost."""
    if not process.answers(cluster):
        return False
    with Api.of(cluster) as api:
        return any((api.get("/api/v1/status").get("jobs") or {}).values())


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
