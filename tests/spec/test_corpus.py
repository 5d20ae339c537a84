"""What users write wrong: each file of the corpus with the very words that say so, line and column included."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.spec.load import SpecError, parse_spec
from clusterctl.spec.providers.registry import KINDS

CORPUS = Path(__file__).parent / "corpus"
JARGON = ("input", "pydantic", "type=", "http", "literal", "dict", "str ", "float", "yaml.org")


def faults_of(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(path.read_bytes().decode(), "spec")
    return "".join(str(fault).removeprefix("spec:") + "\n" for fault in caught.value.faults)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_fault_is_named_with_line_column_and_what_to_write_instead(path: Path) -> None:
    *most, last = [repr(name) for name in KINDS]
    expected = path.with_suffix(".expect").read_text().replace("PROVIDERS", f"{', '.join(most)} or {last}")
    assert faults_of(path) == expected


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.expect")), ids=lambda path: path.stem)
def test_no_message_speaks_the_language_of_the_parser(path: Path) -> None:
    text = path.read_text().lower()
    assert not [word for word in JARGON if word in text]


def test_every_corpus_file_has_its_expectation_and_no_expectation_is_left_over() -> None:
    assert {p.stem for p in CORPUS.glob("*.yaml")} == {p.stem for p in CORPUS.glob("*.expect")}
