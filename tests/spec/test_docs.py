"""The pages on words and on the life of a node say what the code does."""

from __future__ import annotations

from pathlib import Path

from clusterctl.core.lifecycle import DEADLINES, EVENTS
from clusterctl.core.model import NodeState

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below `heading`, without its head."""
    text = (DOCS / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_page_names_every_state_with_its_deadline() -> None:
    written = {state: limit for state, _, limit in rows("node-lifecycle.md", "States")}
    assert written == {s.value: f"{t / 60:g} min" if t else "-" for s, t in DEADLINES.items()}


def test_the_page_has_the_table_of_events() -> None:
    written = {
        event: (set(states.split(", ")), target) for event, states, target in rows("node-lifecycle.md", "Events")
    }
    assert written == {event: ({s.value for s in allowed}, target.value) for event, (allowed, target) in EVENTS.items()}


def test_the_vocabulary_has_the_states_of_a_job_and_the_words_of_the_core() -> None:
    text = (DOCS / "vocabulary.md").read_text()
    for word in ("offer", "gang", "drain", "reason", "plan", "observed", "block", "launch token", "generation"):
        assert f"**{word}**" in text
    assert NodeState.READY.value in (DOCS / "node-lifecycle.md").read_text()
