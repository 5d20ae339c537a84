"""A run of pytest in a tree of its own, with this project's conftest and settings, as CI runs it: in two processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.second_try import REAL

REPOSITORY = Path(__file__).parents[1]
HEAD = """\
from pathlib import Path
import pytest

def tries():
    with Path(__file__).with_suffix(".tried").open("a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())

"""
ONCE = """\
def test_busy():
    assert tries() > 1, "the first try fails"

def test_quiet():
    pass
"""
NEVER = """\
def test_broken():
    tries()
    assert False, "each try fails"
"""
HANGS = """\
import signal

@pytest.fixture
def stuck():
    yield
    signal.pause()

@pytest.mark.timeout(2)
def test_hangs(stuck):
    tries()
    signal.pause()
"""
WORLD = """\
@pytest.fixture(scope="module")
def world():
    assert tries() > 1, "it does not come up at first"
    yield
    with Path(__file__).with_suffix(".ended").open("a") as file:
        file.write("x")

def test_in_it(world):
    pass

def test_in_it_too(world):
    pass
"""
MISSING = """\
def test_missing():
    pytest.skip("not on this machine: a Kubernetes: Debian's packages cannot be fetched")
"""

LOGIC = ("core", "spec", "catalog", "provision", "security", "model", ".")


def test_the_folders_that_have_a_second_try_are_there() -> None:
    assert {path.parent.name for path in REPOSITORY.glob("tests/*/test_*.py")} >= REAL


@dataclass
class Run:
    status: int
    said: str
    directory: Path

    def tries(self, file: str) -> int:
        return len((self.directory / "tests" / file).with_suffix(".tried").read_text())


class Tree:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(REPOSITORY / "tests" / "support", directory / "tests" / "support")
        shutil.copy(REPOSITORY / "tests" / "conftest.py", directory / "tests")
        shutil.copy(REPOSITORY / "pyproject.toml", directory)

    def write(self, path: str, text: str) -> None:
        file = self.directory / "tests" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(HEAD + text)

    def run(self, *options: str) -> Run:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        argv = [sys.executable, "-m", "pytest", "tests", "-p", "no:cacheprovider", *options]
        done = subprocess.run(argv, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=150)
        return Run(done.returncode, done.stdout + done.stderr, self.directory)

    def listed(self) -> str:
        return (self.directory / "build" / "flaky.txt").read_text()


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which something fails for good in each folder of logic, and in some of the others."""
    tree = Tree(tmp_path_factory.mktemp("red"))
    for folder in LOGIC:
        tree.write(f"{folder}/test_it.py", ONCE)
    tree.write("e2e/test_busy.py", ONCE)
    tree.write("ssh/test_broken.py", NEVER)
    tree.write("kubernetes/test_missing.py", MISSING)
    tree.write("docker/test_hangs.py", HANGS)
    tree.write("engine/test_world.py", WORLD)
    tree.write("setup/test_slow.py", "import time\n\ndef test_slow():\n    time.sleep(1.5)\n")
    return tree.run("-n", "2")


def test_what_passes_only_at_its_second_try_is_listed_at_the_end_as_work(red: Run) -> None:
    assert red.tries("e2e/test_busy.py") == 2
    assert "tests/e2e/test_busy.py::test_busy: AssertionError: the first try fails" in red.said
    assert "FAILED tests/e2e" not in red.said


def test_what_fails_twice_has_failed_and_is_not_called_flaky(red: Run) -> None:
    assert red.status == 1
    assert red.tries("ssh/test_broken.py") == 2
    assert "FAILED tests/ssh/test_broken.py::test_broken" in red.said
    assert "flaky: 2" in red.said, "e2e and the world of engine"


@pytest.mark.parametrize("folder", LOGIC)
def test_logic_has_one_try(red: Run, folder: str) -> None:
    assert red.tries(f"{folder}/test_it.py") == 1
    assert f"FAILED tests/{folder}/test_it.py::test_busy".replace("/./", "/") in red.said


def test_the_second_try_and_each_clean_up_have_the_whole_time_limit_again(red: Run) -> None:
    """pytest-timeout alone would stop counting at the first failure: this run would never end."""
    assert red.tries("docker/test_hangs.py") == 2
    assert "FAILED tests/docker/test_hangs.py::test_hangs" in red.said
    assert "ERROR tests/docker/test_hangs.py::test_hangs" in red.said


def test_a_world_that_did_not_come_up_is_made_again_for_the_second_try_and_ended_once(red: Run) -> None:
    assert red.tries("engine/test_world.py") == 2
    assert (red.directory / "tests/engine/test_world.ended").read_text() == "x"
    assert "test_in_it: AssertionError: it does not come up at first" in red.said


def test_what_could_not_be_tested_on_this_machine_is_said_at_the_end(red: Run) -> None:
    assert "NOT TESTED: 1 tests: a Kubernetes: Debian's packages cannot be fetched" in red.said


def test_a_run_tells_the_minutes_of_each_folder_and_file(red: Run) -> None:
    assert re.search(r"0\.0[2-9]  tests/setup \(1 tests\)", red.said)
    assert re.search(r"in all; [0-9.]+ by the clock, the machine [0-9]+% busy", red.said)
    assert re.search(r"0\.0[2-9]  tests/setup/test_slow.py", red.said)


def test_a_run_whose_failures_pass_at_the_second_try_passes_and_says_who_was_in_the_list_before(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("e2e/test_busy.py", ONCE)
    first = tree.run()
    assert first.status == 0, first.said
    assert "flaky: 1" in first.said and "2 passed, 1 rerun" in first.said
    assert tree.listed().startswith("tests/e2e/test_busy.py::test_busy\n    ")
    assert "AssertionError: the first try fails" in tree.listed(), "what the first try said is kept"
    (tmp_path / "tests/e2e/test_busy.tried").unlink()
    again = tree.run()
    assert again.status == 0 and "test_busy (in the list of the run before, too): " in again.said
    last = tree.run()
    assert last.status == 0 and "flaky: 0" in last.said
    assert tree.listed() == ""


def test_the_quick_run_leaves_out_what_starts_machines_and_does_not_even_import_their_folders(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("core/test_it.py", "def test_logic():\n    pass\n")
    tree.write("ssh/test_it.py", "raise AssertionError('imported')\n")
    tree.write("aws/test_it.py", "AwsMachines = object\n\ndef test_machine():\n    assert False\n")
    tree.write(
        "cli/test_it.py",
        "@pytest.fixture\ndef cluster():\n    assert False\n\ndef test_up(cluster):\n    pass\n\ndef test_text():\n    pass\n",
    )
    done = tree.run("-m", "quick")
    assert done.status == 0, done.said
    assert "2 passed, 2 deselected" in done.said
