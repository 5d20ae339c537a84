"""Durations and sizes, here and in editors."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.spec.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

units = st.text(alphabet="0123456789. hmsdKMGTPiBb-", max_size=12)


@pytest.mark.parametrize(
    ("text", "read"), [("1GiB", 2**30), ("1.5 GiB", 3 * 2**29), ("20GB", 20 * 10**9), ("2097152B", 2**21)]
)
def test_sizes_have_units(text: str, read: int) -> None:
    assert parse_size(text) == read


def test_a_number_of_bytes_must_be_plausible() -> None:
    assert parse_size(2**20) == 2**20 == parse_size("1048576") and parse_size(0) == 0
    with pytest.raises(ValueError, match="did you mean 8GiB"):
        parse_size(8)


@pytest.mark.parametrize(("text", "fix"), [("5G", "5GiB"), ("5gb", "5GiB"), ("512Mi", "512MiB"), ("x", "write 100GiB")])
def test_a_size_in_other_units_suggests_ours(text: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        parse_size(text)


@given(units)
def test_a_duration_is_read_exactly_where_an_editor_accepts_it(text: str) -> None:
    assert reads(parse_duration, text) == bool(re.search(DURATION_PATTERN, text))


@given(units)
def test_a_size_is_read_exactly_where_an_editor_accepts_it(text: str) -> None:
    implausible = re.fullmatch(r" *[0-9]+ *", text) is not None and 0 < int(text) < 2**20
    assert reads(parse_size, text) == (bool(re.search(SIZE_PATTERN, text)) and not implausible)


def reads(parse: object, text: str) -> bool:
    try:
        parse(text)  # type: ignore[operator]
    except ValueError:
        return False
    return True
