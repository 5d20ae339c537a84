"""Who gets which Ray: one version and one Python for a cluster; what is there is used, what is missing is brought."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.engine.found import read_engine_facts
from clusterctl_runtime.engine.requirements import lacking, plain_requirements
from clusterctl_runtime.engine.wheelhouse import Wanted, Wheel
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.engine.supply import EngineSupply, NoEngine, Supplied
from clusterctl_runtime.head.storage.blobs import BlobStore

from clusterctl.core.errors import BadRequest
from clusterctl.spec.load import parse_spec
from clusterctl.spec.providers import ssh
from tests.support.wheel_index import kept_wheels, wanted

HOSTS = """\
cluster: demo
provider: ssh
engine: ENGINE
pools:
  - {name: cpu, max: 2, hosts: [10.0.0.5, 10.0.0.6]}
"""


def make_supply(directory: Path, engine: str = "ray") -> EngineSupply:
    text = HOSTS.replace("ENGINE", engine)
    raw = {
        "name": "demo",
        "uid": "c0ffee",
        "spec": parse_spec(text, "demo.yaml").model_dump(mode="json", by_alias=True),
        "token_sha256": "0" * 64,
        "state_dir": str(directory / "provider"),
        "engine_python": str(directory / "no-python"),
    }
    (directory / "head").mkdir(exist_ok=True)
    (directory / "head" / "config.json").write_text(json.dumps(raw))
    config = HeadConfig.load(directory / "head")
    return EngineSupply(lambda: config, lambda: None)


def facts(**changes: Any) -> dict[str, Any]:
    return {"engine": {**read_engine_facts(), "ray": "", "extras": [], **changes}}


def has(version: str, *extras: str) -> dict[str, Any]:
    return facts(ray=version, extras=["default", *extras])


def ask(supply: EngineSupply, told: dict[str, Any], role: str = "worker") -> Supplied:
    return asyncio.run(supply.for_node(ssh.KIND, role, told))


def test_a_node_with_another_minor_version_of_python_is_refused_with_both(tmp_path: Path) -> None:
    supply = make_supply(tmp_path)
    supply.note_head(facts(python="3.11"))
    with pytest.raises(NoEngine, match=r"it has Python 3\.9, the head node 3\.11: .*engine\.ray\.python") as caught:
        ask(supply, facts(python="3.9"))
    assert caught.value.code == "engine_mismatch" and caught.value.final


def test_the_ray_of_the_head_nodes_machine_decides_and_is_kept(tmp_path: Path) -> None:
    assert ask(make_supply(tmp_path), has("2.58.1"), "head") == Supplied()
    again = make_supply(tmp_path)
    assert ask(again, has("2.58.1")) == Supplied(), "who has it keeps it"
    assert json.loads((tmp_path / "head" / "engine.json").read_text()) == {"version": "2.58.1"}


def test_a_ray_too_old_to_be_trusted_decides_nothing(tmp_path: Path) -> None:
    supply = make_supply(tmp_path)
    fill(supply, wanted())
    found = ask(supply, has("2.51.0"), "head")
    assert found.environment["ray"] == "2.60.0"


def test_extras_that_a_node_lacks_make_an_installation(tmp_path: Path) -> None:
    supply = make_supply(tmp_path, '{ray: {version: "2.60.0", extras: [serve]}}')
    assert ask(supply, has("2.60.0", "serve")) == Supplied()
    wheels = fill(supply, wanted("serve"))
    told = ask(supply, has("2.60.0")).environment
    assert told["extras"] == ["default", "serve"]
    assert {wheel["sha256"] for wheel in told["wheels"]} == {wheel.sha256 for wheel in wheels}


PACKAGES = '{ray: {version: "2.60.0", packages: ["iniconfig >= 2", Shared_Name]}}'


@pytest.mark.parametrize(
    ("packages", "enough"),
    [
        ({"iniconfig": "2.3.0", "shared-name": "1.0"}, True),
        ({"iniconfig": "1.9", "shared-name": "1.0"}, False),
        ({"iniconfig": "2.3.0"}, False),
    ],
)
def test_a_node_keeps_its_ray_only_where_the_packages_are_there_too(
    tmp_path: Path, packages: dict[str, str], enough: bool
) -> None:
    supply = make_supply(tmp_path, PACKAGES)
    want = wanted(packages=("Shared_Name", "iniconfig>=2"))
    supply.house.keep(want, [wheel := Wheel("any-1-py3-none-any.whl", "0" * 64, 1)])
    supply.house.path(wheel.sha256).write_bytes(b"x")
    told = ask(supply, facts(ray="2.60.0", extras=["default"], packages=packages))
    assert (told == Supplied()) is enough
    assert enough or told.environment["packages"] == ["Shared_Name", "iniconfig>=2"]


def test_what_an_extra_of_a_package_brings_is_not_taken_for_granted() -> None:
    assert lacking(["transformers[torch]"], {"transformers": "5.0", "torch": "2.13.0"}) == ["transformers[torch]"]
    assert lacking(["torch==2.13.0"], {"torch": "2.13.0+cpu"}) == []


def test_packages_belong_to_the_identity_of_an_environment_and_their_spelling_does_not() -> None:
    assert wanted(packages=("six",)).key != wanted().key
    assert plain_requirements(["six >=1", "torch"]) == plain_requirements(["torch", "six>=1", "six>=1"])


def test_an_interpreter_that_the_spec_names_is_used_as_it_is(tmp_path: Path) -> None:
    supply = make_supply(tmp_path, "{ray: {python: /opt/ray/bin/python}}")
    assert ask(supply, facts()) == Supplied(python="/opt/ray/bin/python")


def test_wheels_that_no_index_gives_are_waited_for_and_can_be_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    supply, blobs = make_supply(tmp_path, '{ray: {version: "2.60.0"}}'), BlobStore(tmp_path / "blobs")
    house, wheels = kept_wheels(wanted())

    async def bring() -> Supplied:
        waiting = asyncio.ensure_future(supply.for_node(ssh.KIND, "worker", facts()))
        while not supply.missing:
            await asyncio.sleep(0.01)
            assert not waiting.done()
        (key,) = supply.missing
        with pytest.raises(BadRequest, match="not among the blobs"):
            supply.bring(key, wheels, blobs)
        with pytest.raises(BadRequest, match="nobody waits"):
            supply.bring("0" * 32, wheels, blobs)
        for wheel in wheels:
            blobs.path(wheel.sha256).symlink_to(house.path(wheel.sha256))
        supply.bring(key, wheels, blobs)
        return await asyncio.wait_for(waiting, 60)

    told = asyncio.run(bring())
    assert len(told.environment["wheels"]) == len(wheels)
    assert not supply.missing
    assert supply.wheel(wheels[0].sha256) is not None


def test_this_environment_is_the_engine_of_nodes_on_this_machine(tmp_path: Path) -> None:
    supply = make_supply(tmp_path, '{ray: {version: "2.60.0"}}')
    assert asyncio.run(supply.here("2.60.0", [sys.executable])) == sys.executable


def fill(supply: EngineSupply, want: Wanted) -> list[Wheel]:
    """Puts the wheels where an earlier download would have left them."""
    house, wheels = kept_wheels(want)
    for wheel in wheels:
        supply.house.place(wheel, house.path(wheel.sha256))
    supply.house.keep(want, wheels)
    return wheels
