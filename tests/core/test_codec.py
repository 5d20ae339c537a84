"""Plans on paper: written canonically, read back equal, refused with the place when they are not what they should be."""

from __future__ import annotations

import pytest

from clusterctl.core.codec import dumps, loads
from clusterctl.core.errors import UsageError
from clusterctl.core.model import Offer, Plan
from tests.core.worlds import amounts, decide, offer, state, want


def test_a_plan_is_read_back_equal_and_written_alike() -> None:
    plan = decide(state(), want())
    assert loads(Plan, dumps(plan)) == plan
    assert dumps(plan) == dumps(loads(Plan, dumps(plan)))


def test_one_and_one_point_nought_are_written_alike() -> None:
    assert dumps(offer(price=1)) == dumps(offer(price=1.0))
    odd = offer(resources=amounts(GPU=0.3333, memory=8 * 2**40))
    assert loads(Offer, dumps(odd)) == odd


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "Plan: expected a Plan"),
        ('{"actions": 1}', "Plan.actions: expected a list"),
        ('{"actions": [{"op": "explode"}]}', r"Plan.actions\[0\]: expected one of Launch, Drain"),
        ('{"actions": [], "price_before": "much"}', "Plan.price_before: expected a float, found 'much'"),
        ('{"actions": [], "colour": 1}', "unknown key 'colour'"),
        (
            '{"actions": [{"op": "drain", "node_id": true, "reason": {"code": "", "text": ""}}]}',
            "node_id: expected a str",
        ),
        ('{"actions": [{"op": "drain", "node_id": "a"}]}', "missing 1 required"),
    ],
)
def test_what_is_no_plan_is_refused_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        loads(Plan, text)
