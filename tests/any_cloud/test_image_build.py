"""A build that may die at any step: it goes on, is found done, or leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clusterctl_providers.base import BuildEnded, ImageRecipe
from clusterctl_providers.cloud.image_build import BuildMachine, ImageBuild
from clusterctl_providers.cloud.image_recipe import content_of, user_data

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, UnknownOutcome
from tests.any_cloud.clock import Clock

RECIPE = ImageRecipe("2.60.0", ("data",))
GIB = 1024**3


class Died(BaseException):
    """The process that builds."""


class Foundry:
    """Builds in memory. A machine is pending, then running, then as `end_state` says; an image is pending once."""

    region = "north"
    linger = 0.0

    def __init__(self) -> None:
        self.full: set[str] = set()  # zones without capacity
        self.word = "done {content}"
        self.end_state = "stopped"
        self.console_is_gone = False
        self.console_after = 0  # looks at the console that show nothing
        self.image_states = ["pending", "available"]
        self.machines: dict[str, tuple[BuildMachine, list[str]]] = {}  # token -> machine, states to come
        self.made: dict[str, list[str]] = {}  # content -> states to come
        self.things: set[str] = set()
        self.busy = 1  # sweeps that find something in use
        self.calls = 0
        self.dies_at = -1  # so many calls later the process ends, the call done
        self.launched: list[str] = []

    def _done(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Died

    def image(self, content: str) -> str:
        return f"img-{content}" if content in self.made else ""

    def machine(self) -> str:
        return next((f"vm-{t}" for t, (_, states) in self.machines.items() if states[0] != "terminated"), "")

    def zones(self) -> Sequence[str]:
        return ["north-a", "north-b"]

    def launch(self, machine: BuildMachine, zone: str, token: str) -> str:
        if zone in self.full:
            raise NoCapacity(f"none in {zone}")
        self.things.add("network")
        self.launched.append(zone)
        self.machines.setdefault(token, (machine, ["pending", "running", "running", self.end_state]))
        self._done()
        return f"vm-{token}"

    def state(self, machine: str) -> str:
        states = self.machines[machine.removeprefix("vm-")][1]
        self._done()
        return states.pop(0) if len(states) > 1 else states[0]

    def console(self, machine: str) -> str | None:
        self._done()
        if self.console_is_gone:
            return None
        self.console_after -= 1
        word = self.word.format(content=self.machines[machine.removeprefix("vm-")][0].content)
        return f"booting\nclusterctl-image: {word}\n" if self.console_after < 0 else "booting\n"

    def image_name(self, wanted: str) -> str:
        return wanted

    def create(self, machine: str, name: str, content: str) -> str:
        self.made.setdefault(content, list(self.image_states))
        self._done()
        return f"img-{content}"

    def image_state(self, image: str) -> str:
        states = self.made[image.removeprefix("img-")]
        self._done()
        return states.pop(0) if len(states) > 1 else states[0]

    def end(self, machine: str) -> None:
        self.machines[machine.removeprefix("vm-")][1][:] = ["stopping", "terminated"]
        self._done()

    def sweep(self) -> list[str]:
        self._done()
        if "network" in self.things and self.busy:
            self.busy -= 1
            return ["the network is still in use"]
        self.things.clear()
        return []

    def left(self) -> list[str]:
        return [*self.things, *(token for token, (_, states) in self.machines.items() if states[-1] != "terminated")]


def build(foundry: Foundry, told: Callable[[str], None] = lambda _: None, **more: Any) -> Any:
    clock = Clock()
    recipe = more.get("recipe", RECIPE)
    return ImageBuild(foundry, "b-1", told, clock, clock.pause).make("base-1", "x86_64", "big", recipe, 40 * GIB)


def test_an_image_is_made_once_for_its_content_and_nothing_else_is_left() -> None:
    foundry, told = Foundry(), list[str]()
    made = build(foundry, told.append)
    assert made.fresh and made.name.startswith("clusterctl-ray-2.60.0-x86_64-") and foundry.left() == []
    assert [text.partition(" ")[0] for text in told] == ["launched", told[1].split()[0], "making"]
    assert "is running; Ray is being installed" in told[1]
    again = build(foundry)
    assert (again.id, again.fresh) == (made.id, False) and len(foundry.launched) == 1


def test_a_build_that_dies_after_any_call_is_gone_on_with_and_makes_one_image_on_one_machine() -> None:
    whole = Foundry()
    build(whole)
    for dies_at in range(1, whole.calls + 1):
        foundry = Foundry()
        foundry.dies_at = dies_at
        with pytest.raises(Died):
            build(foundry)
        build(foundry)
        assert len(foundry.made) == 1 and len(foundry.machines) == 1 and foundry.left() == [], dies_at


def test_another_zone_is_tried_where_one_has_nothing_and_the_last_refusal_is_told() -> None:
    foundry = Foundry()
    foundry.full = {"north-a"}
    build(foundry)
    assert foundry.launched == ["north-b"]
    foundry = Foundry()
    foundry.full = {"north-a", "north-b"}
    with pytest.raises(NoCapacity, match="north-b"):
        build(foundry)


@pytest.mark.parametrize(
    ("end_state", "word", "says"),
    [
        ("terminated", "", "was terminated before its image could be made: try again"),
        ("reclaimed", "", "was reclaimed before its image could be made: try again"),
        ("stopped", "failed: no space left", "says: failed: no space left"),
        ("stopped", "nonsense", "says: nothing"),
        ("running", "", "was running before its image could be made"),  # for an hour
    ],
)
def test_a_machine_that_brings_no_image_is_ended_and_what_it_said_is_told(end_state: str, word: str, says: str) -> None:
    foundry = Foundry()
    foundry.end_state, foundry.word = end_state, word
    with pytest.raises(BuildEnded, match=says):
        build(foundry)
    assert foundry.made == {} and foundry.left() == []


def test_a_console_that_comes_late_is_waited_for() -> None:
    foundry = Foundry()
    foundry.console_after = 8
    assert build(foundry).fresh


def test_a_machine_whose_console_is_gone_with_it_stays_on_after_its_last_word_and_unheard_is_not_believed() -> None:
    foundry = Foundry()
    foundry.linger = 45.0
    build(foundry)
    ((machine, _),) = foundry.machines.values()
    assert json.loads(machine.user_data.rpartition("#clusterctl-document\n")[2])["linger"] == 45
    foundry = Foundry()
    foundry.console_is_gone = True
    with pytest.raises(BuildEnded, match="its console cannot be read any more: whether it was done is not known"):
        build(foundry)
    assert foundry.made == {} and foundry.left() == []


@pytest.mark.parametrize("states", [["pending", "failed"], ["invalid"], ["pending"]])
def test_an_image_that_does_not_come_is_told_with_the_clouds_word_and_what_removes_it(states: list[str]) -> None:
    foundry = Foundry()
    foundry.image_states = states
    with pytest.raises(ProviderError, match=f"it is {states[-1]}; remove it \\(`clusterctl image rm img-"):
        build(foundry)


def test_what_cannot_be_cleaned_up_in_time_is_named() -> None:
    foundry = Foundry()
    foundry.busy = 10**6
    with pytest.raises(
        ProviderError, match="not cleaned up: the network is still in use; `clusterctl gc` does it later"
    ):
        build(foundry)


def test_a_broken_line_is_told_as_it_is_and_the_next_try_goes_on() -> None:
    foundry = Foundry()
    plain = foundry.create

    def create(*_: str) -> str:
        raise UnknownOutcome("cut")

    foundry.create = create  # type: ignore[method-assign]
    with pytest.raises(UnknownOutcome):
        build(foundry)
    foundry.create = plain  # type: ignore[method-assign]
    told: list[str] = []
    build(foundry, told.append)
    assert told[0].startswith("going on with vm-") and len(foundry.machines) == 1


def test_an_index_with_a_password_is_refused_before_anything_is_made() -> None:
    foundry = Foundry()
    secret = ImageRecipe("2.60.0", env={"PIP_INDEX_URL": "https://me:secret@index.example/simple"})
    with pytest.raises(BadRequest, match="PIP_INDEX_URL has a password"):
        build(foundry, recipe=secret)
    assert foundry.calls == 0 and foundry.left() == []


def test_the_content_is_all_that_makes_an_image_what_it_is() -> None:
    plain = content_of("base-1", "x86_64", RECIPE, 40)
    assert plain == content_of("base-1", "x86_64", ImageRecipe("2.60.0", ("data",), {}), 40)
    others = [
        content_of("base-2", "x86_64", RECIPE, 40),
        content_of("base-1", "arm64", RECIPE, 40),
        content_of("base-1", "x86_64", RECIPE, 41),
        content_of("base-1", "x86_64", ImageRecipe("2.60.1", ("data",)), 40),
        content_of("base-1", "x86_64", ImageRecipe("2.60.0", ("data", "serve")), 40),
        content_of("base-1", "x86_64", ImageRecipe("2.60.0", ("data",), {"A": "b"}), 40),
        content_of("base-1", "x86_64", ImageRecipe("2.60.0", ("data",), packages=("optuna",)), 40),
    ]
    assert len({plain, *others}) == 8
    document = json.loads(user_data(RECIPE, plain).rpartition("#clusterctl-document\n")[2])
    assert document.pop("linger") == 0
    assert document == {"requirements": ["ray[data,default]==2.60.0"], "ray": "2.60.0", "content": plain, "env": {}}
    more = user_data(ImageRecipe("2.60.0", packages=("torch==2.13.0",)), plain).rpartition("#clusterctl-document\n")[2]
    assert json.loads(more)["requirements"] == ["ray[default]==2.60.0", "torch==2.13.0"]
