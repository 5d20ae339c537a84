"""Bad weather that lasts: throttling, lists that break, lapsed keys, machines that never come. Half an hour of it passes
in a second: the stand-in, the provider and the head's loop go by one simulated clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.cloud.bucket import Bucket

from clusterctl.core.model import Demand, NodeState, Policy, Pool, Shape, State
from clusterctl.core.planner import plan
from clusterctl.core.resources import Resources
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.provisioner import Outcome
from tests.azure.stage import DELETE, PUT, Stage, _view, names, vms
from tests.cloud.azure.cloud import AzureCloud

RATE = 5.0  # calls per second that the provider allows itself, and its reserve
RESERVE = 20


class Clock:
    """The part of the module `time` that the provider uses. Sleeping makes time go on."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Weather(Stage):
    """The head's loop by the clock, for jobs that fill a node each."""

    def __init__(self, directory: Path, cloud: AzureCloud, clock: Clock, **settings: Any) -> None:
        self.clock = clock
        cloud.world.clock = clock.monotonic
        super().__init__(directory, cloud, **settings)
        self.clock_in(self.provider)
        self.sightings: tuple[tuple[str, int], ...] = ()
        self.outcomes: list[Outcome] = []

    def clock_in(self, provider: Any) -> None:
        provider._calls.bucket = Bucket("Azure", RATE, RESERVE, self.clock.monotonic, self.clock.sleep)
        provider._calls._pause = self.clock.sleep
        provider._listing._clock = self.clock.time
        provider._rows._clock = self.clock.time
        provider._power._calls._clock, provider._power._calls._pause = self.clock.monotonic, self.clock.sleep
        provider._launcher._calls._clock, provider._launcher._calls._pause = self.clock.monotonic, self.clock.sleep
        provider._offers._clock = provider._offers._now = self.clock.time

    @property
    def now(self) -> float:
        return self.clock.now

    @now.setter
    def now(self, value: float) -> None:
        self.clock.now = max(self.clock.now, value)

    def pause(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def turn(self, jobs: int) -> list[Outcome]:
        observed = self.provisioner.observe()
        demand = Demand("jobs", "job", ((Shape(Resources.of(CPU=2), pool="cpu"), 1),), count=jobs, since=0.0)
        state = State(
            cluster="demo", uid=self.uid, pools=(Pool("cpu", "azure", min=0, max=200),),
            nodes=tuple(_view(node) for node in self.journal.nodes().values()),
            blocks=self.provisioner.blocks(self.now), failures=self.provisioner.failures(self.now),
            next_number=self.journal.next_numbers(), sightings=self.sightings,
        )  # fmt: skip
        self.sightings = count_sightings(state, observed)
        demands = (demand,) if jobs else ()
        answer = plan(Policy(), observed, state, demands, self.provisioner.offers(), self.now)
        self.outcomes += (made := self.provisioner.apply(answer))
        return made

    def live(self, seconds: float, jobs: int, every: float = 1.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.turn(jobs)
            self.clock.sleep(every)

    def grow(self, jobs: int) -> None:
        """One launch for each node, so that a list of them has pages."""
        for number in range(1, jobs + 1):
            self.live(1, jobs=number)

    def alive(self) -> list[str]:
        return names(self.cloud, "Creating", "Updating", "Succeeded")

    def known(self) -> list[str]:
        """Instances of the journal's nodes that are to live."""
        ends = (NodeState.TERMINATING, NodeState.FAILED, NodeState.GONE)
        return sorted(n.instance_id for n in self.journal.nodes().values() if n.state not in ends)


def launched(cloud: AzureCloud) -> int:
    """Calls that launch."""
    return cloud.world.operations().count(PUT)


def states(cloud: AzureCloud) -> set[str]:
    return {vm["properties"]["provisioningState"] for vm in vms(cloud)}


@pytest.fixture
def sky(cloud: AzureCloud, tmp_path: Path) -> Iterator[Weather]:
    clock = Clock()
    place = Weather(tmp_path, cloud, clock)
    yield place
    place.close()


def test_half_a_minute_of_throttling_loses_nothing_doubles_nothing_and_takes_few_calls(
    sky: Weather, cloud: AzureCloud
) -> None:
    sky.live(3, jobs=2)
    first, started = sky.alive(), sky.now
    cloud.fault("*", code="TooManyRequests", status=429, times=None, until=started + 30.0)
    while len(sky.alive()) < 10:
        sky.live(1, jobs=10)
        assert sky.now < started + 75
    refused = [action for at, action, _ in cloud.world.calls if started < at < started + 30]
    assert 3 <= len(refused) <= 30, refused
    sky.live(30, jobs=10)
    assert sky.alive() == sky.known() and len(sky.alive()) == 10
    assert set(first) <= set(sky.alive())
    assert launched(cloud) <= 10 + 2 * 16, "what is refused for one is not asked for the others"


def test_a_cloud_that_allows_few_calls_is_used_within_its_limit(sky: Weather, cloud: AzureCloud) -> None:
    """The account's bucket is smaller than ours: what is refused slows us down, and all nodes come."""
    cloud.world.limit("*", burst=5, per_second=1.0)
    sky.live(240, jobs=20)
    assert len(sky.alive()) == 20 and sky.alive() == sky.known()


@pytest.mark.parametrize("effect", ["error", "cut", "garbled"])
def test_a_list_that_breaks_at_its_second_page_ends_and_doubles_nothing(
    sky: Weather, cloud: AzureCloud, effect: str
) -> None:
    sky.grow(9)
    nine = sky.alive()
    cloud.world.page_sizes["microsoft.compute/virtualmachines"] = 5
    fault = cloud.fault("virtualMachines.list", effect, times=None, match="skiptoken")
    sky.journal.move("cpu-1", "fail", sky.now, "the test says so", "test")
    sky.live(120, every=3, jobs=9)
    (scope,) = sky.provisioner.observe()
    assert not scope.complete and len(scope.instances) < 9 and scope.error
    assert set(nine) < set(sky.alive()) and len(sky.alive()) == 10, "half a list ends nothing, and doubles nothing"
    cloud.world.faults.remove(fault)
    sky.live(60, jobs=9)
    assert len(sky.alive()) == 9 == len(set(sky.alive()) & set(sky.known()))
    assert len(set(sky.alive()) & set(nine)) == 8, "the failed one was replaced"


def test_what_nobody_knows_is_not_ended_by_half_a_list_but_by_whole_ones(sky: Weather, cloud: AzureCloud) -> None:
    sky.grow(6)
    (stray,) = sky.provider.create([sky.request("cpu-77")])
    cloud.world.page_sizes["microsoft.compute/virtualmachines"] = 5
    fault = cloud.fault("virtualMachines.list", times=None, match="skiptoken")
    sky.live(300, jobs=6, every=5)
    assert len(sky.alive()) == 7
    cloud.world.faults.remove(fault)
    sky.live(120, every=3, jobs=6)
    assert len(sky.alive()) == 6 and stray.id not in sky.alive()  # type: ignore[union-attr]


@pytest.mark.parametrize("effect", ["lost", "reset", "garbled"])
def test_launches_and_ends_whose_answer_is_lost_happen_once(sky: Weather, cloud: AzureCloud, effect: str) -> None:
    cloud.world.visible_after = 2.0
    for operation in (PUT, DELETE):
        cloud.fault(operation, effect, times=3)
    sky.live(120, every=3, jobs=7)
    assert len(sky.alive()) == 7 and sky.alive() == sky.known()
    for number in range(1, 4):
        sky.journal.move(f"cpu-{number}", "fail", sky.now, "the test says so", "test")
    sky.live(180, every=3, jobs=4)
    assert len(sky.alive()) == 4 and sky.alive() == sky.known()


def test_keys_that_lapse_in_the_middle_hold_back_everything_and_are_asked_for_rarely(
    sky: Weather, cloud: AzureCloud
) -> None:
    sky.live(5, jobs=3)
    three = sky.alive()
    cloud.world.lapsed = True
    before = len(cloud.world.calls)
    sky.live(600, jobs=8, every=5)
    assert sky.alive() == three
    said = "AZURE_CLIENT_SECRET"
    assert any(said in o.error for o in sky.outcomes) or said in sky.provisioner.observe()[0].error
    made = Counter(cloud.world.operations(before))
    assert made[PUT] <= 10 and set(made) <= {"virtualMachines.list", "resourceGroups.get", PUT}, made
    cloud.world.lapsed = False
    sky.live(120, every=3, jobs=8)
    assert len(sky.alive()) == 8 and sky.alive() == sky.known()


def test_machines_that_boot_and_never_join_are_replaced_at_their_deadline_and_their_console_is_quoted(
    sky: Weather, cloud: AzureCloud
) -> None:
    said = {"text": "[ 4.2] Kernel panic - not syncing\n\n  VFS: no root \x1b[0m device\n"}
    cloud.world.consoles = lambda _: said["text"]
    cloud.world.end_seconds = 30.0
    told: set[str] = set()
    began = sky.now
    while sky.now < began + 2000:
        told |= {n.reason for n in sky.journal.nodes().values() if n.code == "booting_too_long"}
        if sky.now > began + 1000:
            said["text"] = ""
        sky.live(20, jobs=2, every=5)
    panic = '; its console ends: "[ 4.2] Kernel panic - not syncing | VFS: no root [0m device"'
    assert any(text.startswith("booting for more than 600 s" + panic) for text in told), told
    assert any("its console is empty" in text for text in told), told
    attempts = launched(cloud) // 2  # each of two nodes
    assert 3 <= attempts <= 4, "one attempt in ten minutes"
    assert (
        len(sky.alive()) <= 2
        and cloud.world.operations().count("virtualMachines.retrieveBootDiagnosticsData") <= 2 * 2 * attempts
    )


def test_a_boot_that_takes_twice_as_long_is_waited_for(sky: Weather, cloud: AzureCloud) -> None:
    cloud.world.boot_seconds = 240.0
    sky.live(230, jobs=3, every=5)
    assert len(sky.alive()) == 3 and states(cloud) == {"Creating"}
    sky.live(30, jobs=3)
    assert states(cloud) == {"Succeeded"} and len(sky.alive()) == 3
    assert DELETE not in cloud.world.operations()
