"""A real head process and a crowd of agents that speak the real protocol: the benchmark of the fleet, small."""

from __future__ import annotations

from tests.bench.headload import measure


def test_a_crowd_joins_works_survives_the_heads_death_and_is_cancelled() -> None:
    """`measure` itself fails where a task is sent twice, an agent stays away, or something that was cancelled runs on."""
    figures = measure(agents=40, tasks=400, seconds=1.0)
    assert figures["memory, at last"] < 400
    assert {"joins", "first wave", "all back", "mass retries", "cancel"} <= set(figures)
