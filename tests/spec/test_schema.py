"""The schema that editors use agrees with what is read, and the reference in the docs agrees with the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from clusterctl.spec.document import compose
from clusterctl.spec.init import STARTERS, starter_texts
from clusterctl.spec.load import parse_spec
from clusterctl.spec.reference import BEGIN, render_reference, replace_reference
from clusterctl.spec.schema import json_schema, main
from tests.spec.examples import FULL, SMALLEST

CORPUS = Path(__file__).parent / "corpus"
DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# faults that are no matter of keys and types, so that an editor cannot see them
KEYS_AND_TYPES = (
    "unknown-key-at-the-top",
    "unknown-key-in-a-pool",
    "unknown-key-deep-inside",
    "unknown-key-of-a-provider",
    "words-of-other-tools",
    "yes-is-text-not-a-number",
    "no-is-text-not-a-boolean",
    "a-quoted-number-is-text",
    "a-fraction-is-no-count",
    "minutes-and-seconds-are-not-a-duration",
    "a-duration-without-unit-in-quotes",
    "a-negative-duration",
    "a-size-in-kubernetes-units",
    "a-duration-for-a-size",
    "names-that-are-none",
    "no-pools",
    "an-empty-list-of-pools",
    "pools-as-a-mapping",
    "keys-without-a-value",
    "the-provider-is-unknown",
    "the-provider-is-misspelt",
    "two-providers",
    "the-gpu-as-text",
    "setup-as-text",
    "limits-below-zero",
    "an-engine-that-is-none",
    "resources-as-a-list",
)


def data_of(text: str) -> Any:
    return compose(text, "spec").root.data()


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text", [SMALLEST, FULL, *(starter_texts(name, ray=True)["cluster.yaml"] for name in STARTERS)]
)
def test_specs_that_are_read_pass_the_schema(text: str) -> None:
    parse_spec(text)
    assert [error.message for error in VALIDATOR.iter_errors(data_of(text))] == []


@pytest.mark.parametrize(
    "part",
    [
        "env: {PORT: 8080, DEBUG: true}\n",
        "engine: {ray: }\n",
        "engine: ray\n",
        "engine: {ray: {version: 2.60}}\n",
        "engine: none\nhead: {disk: 1073741824, resources: {memory: 8GiB, CPU: 0.5}}\n",
    ],
)
def test_short_forms_pass_the_schema(part: str) -> None:
    text = SMALLEST.replace("local", "fake") + part
    parse_spec(text)
    assert [error.message for error in VALIDATOR.iter_errors(data_of(text))] == []


@pytest.mark.parametrize("name", KEYS_AND_TYPES)
def test_an_editor_sees_faults_of_keys_and_types(name: str) -> None:
    assert not VALIDATOR.is_valid(data_of((CORPUS / f"{name}.yaml").read_text()))


def test_every_key_has_a_description() -> None:
    definitions = {"ClusterSpec": SCHEMA, **SCHEMA["$defs"]}
    without = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description") and "$ref" not in value and "anyOf" not in value
    ]
    assert without == []
    assert all(definition.get("description") for definition in definitions.values())


def test_every_example_in_the_schema_is_valid() -> None:
    for schema in objects(SCHEMA):
        if "properties" in schema and schema.get("type") == "object":
            for key, value in schema["properties"].items():
                for example in value.get("examples", []):
                    errors = list(VALIDATOR.evolve(schema={**value, "$defs": SCHEMA["$defs"]}).iter_errors(example))
                    assert not errors, (key, example)


def test_no_key_may_be_null_where_the_text_may_not_be_empty() -> None:
    assert not VALIDATOR.is_valid(data_of(SMALLEST + "limits: \n"))
    assert "null" not in json.dumps(SCHEMA["$defs"]["Limits"])


def test_the_reference_in_the_docs_is_that_of_this_version() -> None:
    page = (DOCS / "spec.md").read_text()
    assert BEGIN in page
    fix = "python -m clusterctl.spec.schema --markdown docs/spec.md"
    assert replace_reference(page, SCHEMA) == page, f"docs/spec.md is out of date: {fix}"


def test_the_specs_in_the_docs_are_those_of_the_contract() -> None:
    blocks = [block.split("```")[0] for block in (DOCS / "spec.md").read_text().split("```yaml\n")[1:]]
    not_yet = "queue: {fair_share: user, preemption: true}\n"  # read, and not carried out: no example for people
    assert blocks[:2] == [SMALLEST, FULL.replace(not_yet, "")]


def test_the_module_prints_schema_and_reference(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert main(["--markdown"]) == 0
    assert capsys.readouterr().out == render_reference(SCHEMA) + "\n"
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- reference: begin -->\nold\n<!-- reference: end -->\nafter\n")
    assert main(["--markdown", str(page)]) == 0
    assert (
        "old" not in page.read_text() and page.read_text().startswith("before") and page.read_text().endswith("after\n")
    )
    assert main(["--html"]) == 2


def test_yaml_of_the_schemas_defaults_is_read_back() -> None:
    """A spec with every default written out is the spec without them."""
    spec = parse_spec(SMALLEST)
    written = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert parse_spec(yaml.safe_dump(written)) == spec
