"""Azure Resource Graph: what there was a moment ago, asked for in a small part of Kusto's language.

resources | where type =~ 'microsoft.compute/virtualmachines' and resourceGroup =~ 'g' | project name, a = tostring(b.c)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Resource, Store, group_of, name_of
from tests.cloud.azure.vms import VM, Vms
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, Refusal, Violation, World

MOST_ROWS = 1000
_TOKEN = re.compile(r"\s*('[^']*'|\"[^\"]*\"|=~|==|!=|!~|[\w.$-]+|[(),|\[\]=])")
_TABLES = {"resources": lambda kind: "/" in kind, "resourcecontainers": lambda kind: kind.endswith("/resourcegroups")}

Row = dict[str, Any]
Expression = Callable[[Row], Any]


class Graph:
    def __init__(self, world: World, store: Store, services: Services, resources: Resources, vms: Vms) -> None:
        self._world, self._store, self._resources, self._vms = world, store, resources, vms
        services.on("resourceGraphClient.resources", self._query)

    def _query(self, call: Call) -> Answer:
        subscriptions = [s.lower() for s in call.body.get("subscriptions") or [SUBSCRIPTION]]
        options = call.body.get("options") or {}
        if options.get("resultFormat", "objectArray") != "objectArray":
            raise Violation(501, "NotImplemented", "The stand-in answers with arrays of objects only")
        rows = _run(call.body["query"], self._table(call) if SUBSCRIPTION in subscriptions else {})
        begin, size = int(options.get("$skipToken") or options.get("$skip") or 0), int(options.get("$top") or MOST_ROWS)
        if size > MOST_ROWS:
            raise Refusal(400, "BadRequest", f"The value of $top must be at most {MOST_ROWS}.")
        page = rows[begin : begin + size]
        more = begin + size < len(rows)
        body: dict[str, Any] = {
            "totalRecords": len(rows), "count": len(page), "data": page, "facets": [], "resultTruncated": "false",
        }  # fmt: skip
        if more:
            body["$skipToken"] = str(begin + size)
        headers = {"x-ms-user-quota-remaining": "14", "x-ms-user-quota-resets-after": "00:00:05"}
        return Answer(200, body, headers)

    def _table(self, call: Call) -> dict[str, list[Row]]:
        """Rows of each table, as of a moment ago, that the caller may see."""
        at = self._world.clock() - self._world.graph_delay
        rows = [
            self._row(r, at) for r in self._store.everything()
            if self._store.since(r["id"]) <= at
            and self._world.permitted(call.principal, f"{r['type']}/read", r["id"])
        ]  # fmt: skip
        return {
            "resources": [r for r in rows if not r["type"].endswith("/resourcegroups")],
            "resourcecontainers": [{**r, "type": "microsoft.resources/subscriptions/resourcegroups"}
                                   for r in rows if r["type"].endswith("/resourcegroups")],
        }  # fmt: skip

    def _row(self, resource: Resource, at: float) -> Row:
        shown = self._resources.shown(resource, {})
        row: Row = {
            "id": shown["id"], "name": shown["name"], "type": shown["type"].lower(), "tenantId": TENANT, "kind": "",
            "location": shown.get("location", ""), "resourceGroup": name_of(group_of(shown["id"])).lower(),
            "subscriptionId": SUBSCRIPTION, "managedBy": shown.get("managedBy", ""), "sku": shown.get("sku"),
            "plan": shown.get("plan"), "properties": shown.get("properties", {}), "tags": shown.get("tags") or {},
            "identity": shown.get("identity"), "zones": shown.get("zones"),
        }  # fmt: skip
        if resource["type"] == VM:
            machine = self._vms.by_key[resource["id"].lower()]
            known = [power for when, power in machine.powers if when <= at]
            view: dict[str, Any] = {"computerName": machine.name}
            if known:
                code = f"PowerState/{known[-1]}"
                view["powerState"] = {"code": code, "displayStatus": f"VM {known[-1]}", "level": "Info"}
            row["properties"]["extended"] = {"instanceView": view}
        return row


# ---------------------------------------------------------------- the language


def _run(query: str, tables: dict[str, list[Row]]) -> list[Row]:
    stages = [_tokens(stage) for stage in query.split("|")]
    name = stages[0][0].lower() if stages[0] else ""
    if len(stages[0]) != 1 or (tables and name not in tables):
        raise _wrong(query)
    rows = tables.get(name, [])
    for stage in stages[1:]:
        word, rest = (stage[0].lower(), stage[1:]) if stage else ("", [])
        if word == "where":
            test = _condition(rest)
            rows = [row for row in rows if test(row)]
        elif word in ("project", "extend"):
            columns = [_column(part) for part in _split(rest)]
            made = [{key: of(row) for key, of in columns} for row in rows]
            rows = made if word == "project" else [{**row, **new} for row, new in zip(rows, made, strict=True)]
        elif word in ("limit", "take"):
            rows = rows[: int(rest[0])]
        elif word in ("order", "sort") and rest[:1] == ["by"]:
            key = _expression(rest[1:2])
            rows = sorted(rows, key=lambda row: str(key(row)), reverse=rest[2:3] != ["asc"])
        else:
            raise _wrong(query)
    return rows


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text)
        found.append(match.group(1))
        at = match.end()
    return found


def _condition(tokens: list[str]) -> Callable[[Row], bool]:
    """Comparisons with `and` between them."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token.lower() == "and" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    tests = [_comparison(part) for part in parts]
    return lambda row: all(test(row) for test in tests)


def _comparison(tokens: list[str]) -> Callable[[Row], bool]:
    for at, token in enumerate(tokens):
        if token in ("==", "=~", "!=", "!~"):
            left, right = _expression(tokens[:at]), _expression(tokens[at + 1 :])
            alike: Callable[[Any, Any], bool] = _same if token in ("==", "!=") else _same_in_any_case
            return lambda row, no=token[0] == "!": alike(left(row), right(row)) != no
        if token.lower() in ("in", "in~"):
            left, values = (
                _expression(tokens[:at]),
                [t.strip("'\"") for t in tokens[at + 2 : -1] if t not in ("~", ",")],
            )
            return lambda row: left(row) in values
        if token.lower() in ("startswith", "has", "contains"):
            left, right = _expression(tokens[:at]), _expression(tokens[at + 1 :])
            starts = token.lower() == "startswith"
            return lambda row: (
                str(left(row)).lower().startswith(str(right(row)).lower())
                if starts
                else str(right(row)).lower() in str(left(row)).lower()
            )
    raise _wrong(" ".join(tokens))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other)


def _same_in_any_case(one: Any, other: Any) -> bool:
    return str(one).lower() == str(other).lower()


def _column(tokens: list[str]) -> tuple[str, Expression]:
    if tokens[1:2] == ["="]:
        return tokens[0], _expression(tokens[2:])
    return tokens[0].rpartition(".")[2], _expression(tokens)


def _expression(tokens: list[str]) -> Expression:
    """A text, a column with members, or one of two functions of such."""
    if len(tokens) == 1 and tokens[0][0] in "'\"":
        return lambda row: tokens[0][1:-1]
    if tokens[0].lower() in ("tostring", "tolower") and tokens[1:2] == ["("] and tokens[-1] == ")":
        inner, lower = _expression(tokens[2:-1]), tokens[0].lower() == "tolower"
        return lambda row: str(inner(row) or "").lower() if lower else str(inner(row) or "")
    path: list[str] = []
    for token in tokens:
        if token not in ("[", "]"):
            path.extend([token[1:-1]] if token[0] in "'\"" else token.strip(".").split("."))
    if not path or any(t in ("(", ")", ",", "=") for t in tokens):
        raise _wrong(" ".join(tokens))
    return lambda row: _at(row, path)


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _split(tokens: list[str]) -> list[list[str]]:
    """At commas that are in no bracket."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token in "([") - (token in ")]")
        if token == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _wrong(text: str) -> Violation:
    return Violation(400, "BadRequest", f"The stand-in does not know this query, or this part of it: {text}")
