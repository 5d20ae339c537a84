"""Conditions of bindings, in as much of Google's expression language as is used here: `resource.type`, `resource.name` with
`startsWith`, `endsWith` and `extract`, `api.getAttribute(...).hasOnly([...])`, comparisons, `&&`, `||`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

_TYPES = {
    "instances": "Instance",
    "disks": "Disk",
    "images": "Image",
    "subnetworks": "Subnetwork",
    "firewalls": "Firewall",
}
GRANTS = "iam.googleapis.com/modifiedGrantsByRole"
_KNOWN = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.Eq, ast.NotEq, ast.Call, ast.Attribute, ast.Name,
          ast.Load, ast.Constant, ast.List)  # fmt: skip


class _Text(str):
    def startsWith(self, start: str) -> bool:
        return self.startswith(start)

    def endsWith(self, end: str) -> bool:
        return self.endswith(end)

    def extract(self, template: str) -> _Text:
        """What stands where the braces are, from the first place on where the template fits; "" where it fits nowhere."""
        found = re.fullmatch(r"([^{}]*)\{\w+\}([^{}]*)", template)
        if found is None:
            raise ValueError(f"no template: {template}")
        before, after = found.groups()
        start = self.find(before)
        if start < 0:
            return _Text("")
        rest = self[start + len(before) :]
        end = rest.find(after) if after else len(rest)
        return _Text(rest[:end] if end >= 0 else "")


class _Values(list[str]):
    def hasOnly(self, allowed: Iterable[str]) -> bool:
        return set(self) <= set(allowed)


class _Resource:
    def __init__(self, name: str) -> None:
        self.name, self.type = _Text(name), _Text(type_of(name))


class _Api:
    def __init__(self, modified: Iterable[str]) -> None:
        self._modified = modified

    def getAttribute(self, name: str, default: list[str]) -> _Values:
        return _Values(self._modified if name == GRANTS else default)


def type_of(name: str) -> str:
    """`projects/p/zones/z/instances/n` is an Instance; what has no name is its project."""
    parts = name.split("/")
    if len(parts) <= 2:
        return "cloudresourcemanager.googleapis.com/Project"
    if parts[2] == "serviceAccounts":
        return "iam.googleapis.com/ServiceAccount"
    return f"compute.googleapis.com/{_TYPES.get(parts[-2], parts[-2])}"


def compiled(expression: str) -> Any:
    """Raises ValueError for what is no expression of this sort."""
    text = expression.replace("&&", " and ").replace("||", " or ")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval")
    except SyntaxError as error:
        raise ValueError(str(error)) from error
    for node in ast.walk(tree):
        if not isinstance(node, _KNOWN) or (isinstance(node, ast.Name) and node.id not in ("resource", "api")):
            raise ValueError(f"undeclared reference or unknown construct: {ast.unparse(node)}")
    return compile(tree, "condition", "eval")


def holds(expression: str, resource: str, modified: Iterable[str] = ()) -> bool:
    """`modified`: the roles that a change of a policy gives or takes."""
    return bool(
        eval(compiled(expression), {"__builtins__": {}}, {"resource": _Resource(resource), "api": _Api(modified)})
    )
