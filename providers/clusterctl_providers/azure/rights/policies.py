"""What Azure Policy forbids and a cluster would need: a row of `doctor` for each assignment that stands in the way. Those of
Azure's own definitions are understood, alone or in an initiative; of others Azure tells when it refuses
(RequestDisallowedByPolicy)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.cloud.doctor import Check

log = logging.getLogger(__name__)
Parameters = Mapping[str, Any]  # name -> value
_PARAMETER = re.compile(r"\[parameters\('([^']+)'\)\]")


@dataclass(frozen=True)
class Wish:
    """What a cluster would ask for. `sizes` are those of its pools; `public`: some machine gets a public address."""

    region: str
    sizes: Sequence[str]
    types: Sequence[str]
    tags: frozenset[str]
    public: bool


def _not_there(given: Parameters, wish: Wish) -> str:
    allowed = _words(given, "listOfAllowedLocations")
    return "" if wish.region in allowed else f"write one of its regions as `region` ({', '.join(sorted(allowed))})"


def _no_such_sizes(given: Parameters, wish: Wish) -> str:
    allowed = _words(given, "listOfAllowedSKUs")
    refused = [size for size in wish.sizes if size.lower() not in allowed]
    return f"it does not allow {', '.join(refused)}: name others in `instances`" if refused else ""


def _no_such_types(given: Parameters, wish: Wish) -> str:
    allowed = _words(given, "listOfResourceTypesAllowed")
    return _types_refused([one for one in wish.types if one.lower() not in allowed])


def _none_of_these_types(given: Parameters, wish: Wish) -> str:
    return _types_refused([one for one in wish.types if one.lower() in _words(given, "listOfResourceTypesNotAllowed")])


def _types_refused(refused: list[str]) -> str:
    return f"it does not allow {', '.join(refused)}: ask who assigned it" if refused else ""


def _no_public_addresses(given: Parameters, wish: Wish) -> str:
    return "write `reach: private` (or `bastion`), and no `outbound: public`" if wish.public else ""


def _tag_lacking(given: Parameters, wish: Wish) -> str:
    name = str(given.get("tagName") or "")
    return "" if not name or name.lower() in wish.tags else f"write the tag {name!r} under `tags` of the provider"


# guids of Azure's own definitions -> what to do, "" where they are not in the way
_KNOWN: dict[str, Callable[[Parameters, Wish], str]] = {
    "e56962a6-4747-49cd-b67b-bf8b01975c4c": _not_there,  # Allowed locations
    "e765b5de-1225-4ba3-bd56-1ac6695af988": _not_there,  # ... for resource groups
    "cccc23c7-8427-4f53-ad12-b6a63eb452b3": _no_such_sizes,  # Allowed virtual machine size SKUs
    "a08ec900-254a-4555-9bf5-e42af04b5c5c": _no_such_types,  # Allowed resource types
    "6c112d4e-5bc7-47ae-a041-ea2d9dccd749": _none_of_these_types,  # Not allowed resource types
    "83a86a26-fd1f-447c-b59d-e51f44264114": _no_public_addresses,  # Network interfaces should not have public IPs
    "871b6d14-10aa-478d-b590-94f262ecfa99": _tag_lacking,  # Require a tag on resources
    "1e30110a-5ceb-460c-a204-c1c3969c6d62": _tag_lacking,  # ... and its value
    "96670d01-0a4d-4649-9c89-2d3abc0a5025": _tag_lacking,  # Require a tag on resource groups
    "8ce3da23-7156-49e4-b145-24f95f9dcb46": _tag_lacking,  # ... and its value
}


def policy_rows(calls: Calls, scope: str, wish: Wish) -> Iterator[Check]:
    """One for each assignment that is in the way at the scope or above it; one row where nothing is, or where we may not look."""
    try:
        rows = calls.list(
            f"{scope}/providers/Microsoft.Authorization/policyAssignments", "looking up policies", _filter="atScope()"
        )
    except ProviderError as error:
        yield f"policies: not to be looked up ({error})", True, ""
        return
    found = False
    for row in rows:
        for fix in _in_the_way(calls, row, scope, wish):
            found = True
            yield f"policy {_name(row)!r} that lets clusters be", False, f"{fix}; its assignment is {row.get('id')}"
    if not found:
        yield "policies: none known to be in the way", True, ""


def _in_the_way(calls: Calls, row: Mapping[str, Any], scope: str, wish: Wish) -> list[str]:
    properties = dict(row.get("properties") or {})
    left_out = [str(one).rstrip("/").lower() for one in properties.get("notScopes") or ()]
    if properties.get("enforcementMode") == "DoNotEnforce" or any(
        f"{scope}/".lower().startswith(f"{one}/") for one in left_out
    ):
        return []
    given = {name: (one or {}).get("value") for name, one in (properties.get("parameters") or {}).items()}
    members = _members(calls, str(properties.get("policyDefinitionId") or ""), given)
    fixes = [known(parameters, wish) for guid, parameters in members if (known := _KNOWN.get(guid)) is not None]
    return list(dict.fromkeys(filter(None, fixes)))


def _members(calls: Calls, definition: str, given: Parameters) -> list[tuple[str, Parameters]]:
    """(guid, parameters) of a definition, or of each of an initiative."""
    if "/policysetdefinitions/" not in definition.lower():
        return [(last_part(definition).lower(), given)]
    try:
        found = calls.get(definition, f"looking up the initiative {last_part(definition)}").get("properties") or {}
    except ProviderError as error:
        log.info("%s; what is in it is not known", error)
        return []
    usual = {name: (one or {}).get("defaultValue") for name, one in (found.get("parameters") or {}).items()}
    known = {**usual, **given}
    return [
        (last_part(str(one["policyDefinitionId"])).lower(), _filled_in(one.get("parameters") or {}, known))
        for one in found.get("policyDefinitions") or ()
    ]


def _filled_in(parameters: Mapping[str, Any], known: Parameters) -> Parameters:
    """What an initiative hands on to one of its definitions."""
    values = {name: (one or {}).get("value") for name, one in parameters.items()}
    named = {name: _PARAMETER.fullmatch(value) for name, value in values.items() if isinstance(value, str)}
    return {**values, **{name: known.get(found.group(1)) for name, found in named.items() if found}}


def _words(given: Parameters, name: str) -> set[str]:
    """Those of a list, in small letters; locations as `eastus`, however they are written."""
    values = given.get(name)
    return {str(one).lower().replace(" ", "") for one in values} if isinstance(values, list) else set()


def _name(row: Mapping[str, Any]) -> str:
    return str((row.get("properties") or {}).get("displayName") or row.get("name") or "(unnamed)")
