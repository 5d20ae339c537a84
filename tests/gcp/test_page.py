"""Who knows the page on AWS finds his way on that on Google Cloud: the same headings, the same rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.parts import Head
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.gcp import GcpSettings

DOCS = Path(__file__).parents[2] / "docs"
# What AWS has and Google Cloud has not: docs/gcp.md says so in a sentence.
WITHOUT_A_TWIN = {"`ssm`", "`instance-connect`"}


def sections(name: str) -> dict[str, str]:
    """Heading -> text, in the page's order."""
    parts = re.split(r"^## (.+)$", (DOCS / name).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> list[str]:
    rows = re.findall(r"^\| ([^|]+?) \|", text, flags=re.MULTILINE)
    return [row for row in rows if row not in ("starter", "setting", "answer", "`reach`")]


def test_the_headings_are_the_same_in_the_same_order() -> None:
    ours = [heading.replace("Google Cloud", "AWS") for heading in sections("gcp.md")]
    assert ours == list(sections("aws.md"))


@pytest.mark.parametrize("heading", ["Where the head runs", "What a node is"])
def test_every_row_has_its_twin(heading: str) -> None:
    wanted = set(first_cells(sections("aws.md")[heading])) - WITHOUT_A_TWIN
    assert wanted and wanted <= set(first_cells(sections("gcp.md")[heading]))


def test_ways_to_the_head_that_google_has_not_are_named() -> None:
    text = sections("gcp.md")["Where the head runs"]
    assert all(way in text for way in WITHOUT_A_TWIN)


def test_no_section_is_empty() -> None:
    assert all(len(text.split()) > 40 for text in sections("gcp.md").values())


def test_settings_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`([a-z_]+): [^`]+`", (DOCS / "gcp.md").read_text()))
    known = {*GcpSettings.model_fields, *Pool.model_fields, *Head.model_fields, *ClusterSpec.model_fields}
    assert {"os_login", "public_addresses"} <= named and named <= known
