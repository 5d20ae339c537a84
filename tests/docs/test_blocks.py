"""What the pages show works: every spec is read, every command is parsed, and what needs no cloud is run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import (
    PAGES,
    ROOT,
    Block,
    Command,
    blocks_of,
    commands_in,
    examples_of,
    faults_of,
    lines_of,
    spans_of,
)

# Verbs of ours that ask nothing but files; `plan` does where nodes are processes, as on these pages.
ALONE = {("init",), ("validate",), ("image", "dockerfile")}
PLANNED = {"README.md"}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What blocks name is not found in the directory of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_and_every_command_of_a_page_is_right(page: Path) -> None:
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    found = [*blocks_of(text, name), *spans_of(text, name), *examples_of(text, name)]
    faults = [fault for block in found for fault in faults_of(block)]
    assert not faults, "\n".join(faults)


WRONG = {
    "a key that is none": ("yaml", "cluster: demo\nprovider: local\npols: []\n", "unknown key 'pols'"),
    "a fragment with a value that is none": ("yaml", "engine: {ray: {version: much}}\n", "version"),
    "one of several ways": ("yaml", "engine: none\nengine: nothing\n", "nothing"),
    "a fragment that another cloud has": ("yaml", "pools: [{name: a, instances: [m6i.large]}]\n", "instances"),
    "a cloud that the page names": ("yaml provider=aws", "pools: [{name: a, hosts: [b]}]\n", "hosts"),
    "what `up` refuses": ("yaml", "queue: {preemption: true}\n", "does not work"),
    "Serve's file": ("yaml kind=serve", "aplications: []\n", "aplications"),
    "a setting that is none": ("yaml provder=aws", "engine: none\n", "says more than is known"),
    "a verb": ("console", "clusterctl upp cluster.yaml\n", "No such command 'upp'"),
    "a verb of a group": ("console", "clusterctl job stop 3\n", "No such command"),
    "an option": ("console", "clusterctl up cluster.yaml --yess\n", "No such option"),
    "an option without its value": ("console", "clusterctl submit --nodes\n", "requires an argument"),
    "a value": ("console", "clusterctl submit --nodes many a.py\n", "many"),
    "too many words": ("console", "clusterctl plan a.yaml b.yaml\n", "unexpected extra argument"),
    "too few": ("console", "clusterctl job show\n", "more arguments"),
    "the second of two": ("console", "cd there && clusterctl up --nothing\n", "--nothing"),
    "the inner one": ("console", 'eval "$(clusterctl envv)"\n', "No such command 'envv'"),
    "after a prompt": ("console", "$ clusterctl stats\nready\n", "No such command 'stats'"),
    "on the next line": ("console", "clusterctl submit \\\n  --cpu 1 a.py\n", "--cpu"),
    "a quote": ("console", "clusterctl submit -- echo 'a\n", "quot"),
    "in a sentence": ("span", "clusterctl job stop", "No such command"),
    "a command as text": ("text", "clusterctl jobs\n", "call it console"),
    "Python": ("python", "a = (\n", "line 1"),
    "JSON": ("json", "{a}\n", "property name"),
    "another language": ("shell", "ls\n", "does not say what it is"),
    "no language": ("", "ls\n", "does not say what it is"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_block_is_found(what: str) -> None:
    info, text, said = WRONG[what]
    assert said in "".join(faults_of(Block("docs/jobs.md", 1, info, text)))


def test_right_blocks_are_left_alone() -> None:
    page = """
Text with `clusterctl job show`, and a fragment:

```yaml provider=gcp
engine: none   # or
engine: ray
```

- in a list

      indented

```console
$ TOKEN=$(clusterctl service token llm) && clusterctl -q jobs > "a b" | wc -l   # counted
3
```
"""
    found = [*blocks_of(page, "a.md"), *spans_of(page, "a.md")]
    assert [(block.line, block.language) for block in found] == [
        (4, "yaml"),
        (11, ""),
        (13, "console"),
        (2, "span"),
    ]
    assert [str(block) for block in found if faults_of(block)] == ["a.md:11"]
    (line,) = lines_of(found[2])
    assert [command.words for command in commands_in(line)] == [
        ("service", "token", "llm"),
        ("-q", "jobs"),
        (),
        ("-l",),
    ]


def runnable(page: Path) -> Iterator[Command]:
    """The commands of a page that need neither a cluster nor a cloud."""
    for block in blocks_of(page.read_text(encoding="utf-8"), page.name):
        for line in lines_of(block) if block.language == "console" else ():
            for command in commands_in(line):
                words = command.words
                theirs = "--from" in words  # a file of the reader's
                ours = command.program == "clusterctl" and not theirs and (words[:1] in ALONE or words[:2] in ALONE)
                planned = words[:1] == ("plan",) and page.name in PLANNED
                rights = command.program == "python" and words[1:2] and words[1].startswith("clusterctl_providers.")
                if ours or planned or rights:
                    yield command


@pytest.mark.parametrize("page", [page for page in PAGES if any(runnable(page))], ids=lambda page: page.name)
def test_what_needs_no_cloud_runs_as_the_page_has_it(page: Path, somewhere: Path) -> None:
    for block in blocks_of(page.read_text(encoding="utf-8"), page.name):
        if block.language == "yaml" and block.text.startswith("cluster:") and not Path("cluster.yaml").exists():
            Path("cluster.yaml").write_text(block.text)
    for command in runnable(page):
        if command.words[0] == "init":
            Path("cluster.yaml").unlink(missing_ok=True)
        run(command, somewhere)


def run(command: Command, somewhere: Path) -> None:
    program = ["-m", "clusterctl"] if command.program == "clusterctl" else []
    done = subprocess.run(
        [sys.executable, *program, *command.words],
        env={**os.environ, "CLUSTERCTL_HOME": str(somewhere / "home")},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout, f"{command} ended with {done.returncode}: {done.stderr}"
