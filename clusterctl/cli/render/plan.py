"""A plan as a person reads it: + ~ - per pool and field, and dollars per hour before and after."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

from clusterctl.cli.output import paint
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.text import amounts, columns, money

_SIGNS = {"add": "+", "create": "+", "launch": "+", "+": "+", "change": "~", "update": "~", "~": "~"}
_REMOVALS = frozenset({"remove", "delete", "terminate", "drain", "-"})
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_OF_PLACES = {"first": "green", "next": "", "out": "red"}
SHOWN = 3  # machines of a pool
PAGE = 80  # columns
_TAKES_NODES = frozenset({"drain", "replace"})


def sign_of(action: dict[str, Any]) -> str:
    """ "+", "~" or "-"; "~" for an operation that is not known here."""
    op = str(action.get("op", ""))
    return _SIGNS.get(op, "-" if op in _REMOVALS else "~")


def destructive(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The actions that take nodes away from what runs on them."""
    actions = plan.get("actions") or []
    return [action for action in actions if action.get("policy") in _TAKES_NODES or sign_of(action) == "-"]


def render_plan(document: dict[str, Any]) -> str:
    """The document of `plan`, what it warns of last."""
    nowhere = document.get("places") and not document["place"]
    cost = {} if nowhere else document.get("cost") or {}
    actions = document.get("actions") or []
    lines = [*_places(document), f"cluster {document.get('cluster', '')}" + _in(document)]
    for action in actions:
        lines += _action(action)
    if not actions:
        lines.append("  nothing to do")
    if not nowhere:
        lines += _machines(document.get("pools") or [])
    if cost:
        most = f", at most {money(cost['max'])}/h" if cost.get("max") else ""
        lines.append(f"cost {money(cost.get('before'))}/h -> {money(cost.get('after'))}/h{most}")
    lines += [one_line(_text(note)) for note in document.get("notes") or []]
    lines += [f"warning: {one_line(_text(warning))}" for warning in document.get("warnings") or []]
    return "\n".join(lines)


def _places(document: dict[str, Any]) -> list[str]:
    """Those that the spec lists, in the order in which they are tried, and why one is out; an empty line after them."""
    places = document.get("places") or []
    longest = max((len(place["place"]) for place in places), default=0)
    lines: list[str] = []
    for place in places:
        cost = place["cost"]
        price = "" if cost["max"] is None else f"{money(cost['after'])}/h at once, at most {money(cost['max'])}/h"
        state = paint(place["state"].ljust(5), _OF_PLACES[place["state"]])
        lines.append(f"  {one_line(place['place']).ljust(longest)}  {state}  {price}".rstrip())
        for why in place["why"]:
            lines += wrap(
                one_line(why), PAGE, initial_indent="      ", subsequent_indent="      ", break_long_words=False
            )
    return ["places, in the order in which they are tried", *lines, ""] if lines else []


def _machines(pools: list[dict[str, Any]]) -> list[str]:
    """What each pool gets, in the order in which it is tried; nothing where no machine costs anything."""
    if not any(one["price"] for pool in pools for one in pool["choices"]):
        return []
    from clusterctl_providers.catalog.choice import SPOT_ESTIMATE, SPOT_ESTIMATE_SOURCE

    rows: list[tuple[str, ...]] = []
    for pool in pools:
        for number, one in enumerate(pool["choices"][:SHOWN]):
            name = "" if number else pool["name"]
            at_once = "" if number else f"{pool['at_once']} of {pool['max']}"
            price = ("~" if one["price_source"] == SPOT_ESTIMATE_SOURCE else "") + money(one["price"])
            why_not = f" (closed: {_shortened(one['why_not'])})" if one["why_not"] else ""
            rows.append((name, at_once, one["type"], one["market"], price, _where(one["places"]) + why_not))
        hidden = len(pool["choices"][SHOWN:]) + pool["more"]
        if hidden:
            rows.append(("", "", f"and {hidden} more", "", "", ""))
    table = columns(("pool", "at once", "type", "market", "$/h", "where"), rows, right=(4,), indent=2)
    lines = ["", "machines, in the order in which each pool tries them", *(f"  {line}" for line in table.splitlines())]
    if any(one["price_source"] == SPOT_ESTIMATE_SOURCE for pool in pools for one in pool["choices"][:SHOWN]):
        lines.append(f"  ~ estimated as {SPOT_ESTIMATE:g} of the price on demand: no spot price is known")
    return [*lines, ""]


def _where(places: list[str]) -> str:
    return places[0] + (f" +{len(places) - 1}" if len(places) > 1 else "")


def _shortened(text: str, most: int = 30) -> str:
    """On one line, and at most so long."""
    text = one_line(text)
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


def _in(document: dict[str, Any]) -> str:
    """Where the plan that follows is carried out, of several places."""
    if not document.get("places"):
        return ""
    return f" in {one_line(document['place'])}" if document["place"] else ": no place is left"


def _action(action: dict[str, Any]) -> list[str]:
    sign = sign_of(action)
    head = f"{sign} {action.get('kind', '')} {action.get('name', '')}".rstrip()
    policy = f" [{action['policy']}]" if action.get("policy") and sign != "+" else ""
    reason = _text(action.get("reason"))
    lines = [f"  {paint(one_line(head), _COLOURS[sign])}{policy}" + (f": {one_line(reason)}" if reason else "")]
    return lines + [f"      {one_line(field)}" for field in _fields(action.get("fields"))]


def _fields(fields: Any) -> list[str]:
    """Changed fields come as {name: {"before", "after"}}, as {name: value}, or as a list of either with "field"."""
    if isinstance(fields, dict):
        return [f"{name}: {_change(value)}" for name, value in fields.items()]
    if isinstance(fields, list):
        return [
            f"{item.get('field') or item.get('name')}: {_change(_readable(item))}"
            if isinstance(item, dict)
            else str(item)
            for item in fields
        ]
    return []


def _readable(item: dict[str, Any]) -> dict[str, Any]:
    """Amounts are written as people write them, and not in bytes."""
    if item.get("name") != "resources":
        return item
    return item | {side: amounts(json.loads(item[side])) if item.get(side) else "-" for side in ("before", "after")}


def _change(value: Any) -> str:
    if isinstance(value, dict) and ("before" in value or "after" in value):
        policy = f" ({value['policy']})" if value.get("policy") else ""
        return f"{_shown(value.get('before'))} -> {_shown(value.get('after'))}{policy}"
    return _shown(value)


def _shown(value: Any) -> str:
    return "-" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return str(value.get("text", "")) if isinstance(value, dict) else str(value or "")
