"""Types of single keys of a spec: what their text may be, and what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from clusterctl.spec.base import SIZE_SCHEMA
from clusterctl.spec.faults import Finding, refuse, shorten
from clusterctl.spec.units import DURATION_PATTERN, MOMENT_PATTERN, parse_duration, parse_moment, parse_size

SIZES = ("memory", "object_store_memory")  # resources that count bytes
_WELL_KNOWN = {
    "cpu": "CPU",
    "cpus": "CPU",
    "vcpu": "CPU",
    "gpu": "GPU",
    "gpus": "GPU",
    "nvidia.com/gpu": "GPU",
    "mem": "memory",
    "ram": "memory",
}
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def read_amounts(value: Any) -> Any:
    """Resources as plain numbers: sizes become bytes; familiar names written otherwise are refused."""
    if not isinstance(value, dict):
        return value
    amounts, findings = amounts_in(value)
    return refuse(findings) if findings else amounts


def amounts_in(value: dict[Any, Any]) -> tuple[dict[Any, Any], list[Finding]]:
    """The same, and what is wrong with them."""
    amounts: dict[Any, Any] = {}
    findings: list[Finding] = []
    for name, amount in value.items():
        familiar = _familiar(str(name))
        if familiar != name:
            findings.append(
                Finding((name,), f"unknown resource {shorten(name)}", f"did you mean {familiar!r}?", at_key=True)
            )
            continue
        try:
            amounts[name] = parse_size(amount) if name in SIZES and not isinstance(amount, float) else amount
            findings += _check_amount(str(name), amounts[name])
        except ValueError as error:
            findings.append(Finding((name,), str(error)))
    return amounts, findings


def _familiar(name: str) -> str:
    """The right name of a resource that is known under several; others are the user's own."""
    lower = name.lower()
    return lower if lower in SIZES else _WELL_KNOWN.get(lower, name)


def is_number(value: Any) -> bool:
    """Whether YAML has it as a number, and a finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_amount(name: str, amount: Any) -> Iterator[Finding]:
    if not is_number(amount):
        yield Finding((name,), f"the amount of {name!r} must be a number, not {shorten(amount)}")
    elif amount < 0:
        yield Finding((name,), f"resource {name!r} is negative ({amount:g})")
    elif name in SIZES and amount != int(amount):
        yield Finding((name,), f"{name!r} counts bytes: {amount:g} is not a size", f"did you mean {amount:g}GiB?")
    elif name == "GPU" and amount != int(amount):
        yield Finding(
            (name,), f"a node cannot have {amount:g} GPUs", "jobs may ask for a part of one; a node has whole ones"
        )


def read_env(value: Any) -> Any:
    """Environment variables, whose names must be such."""
    findings = list(_check_env(value)) if isinstance(value, dict) else []
    return refuse(findings) if findings else value


def _check_env(env: dict[Any, Any]) -> Iterator[Finding]:
    for name, value in env.items():
        yield from _check_text(name, value)
        if not _ENV_NAME.fullmatch(str(name)):
            what = f"{shorten(name)} is not a name for an environment variable"
            yield Finding((name,), what, "letters, digits and '_', no digit first", True)
        elif name.startswith("CLUSTERCTL_"):
            what = f"{shorten(name)} is reserved: clusterctl sets the variables that begin with CLUSTERCTL_"
            yield Finding((name,), what, "", True)


def read_labels(value: Any) -> Any:
    """Labels, which Ray must accept."""
    findings = list(_check_labels(value)) if isinstance(value, dict) else []
    return refuse(findings) if findings else value


def _check_labels(labels: dict[Any, Any]) -> Iterator[Finding]:
    allowed = "up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    for key, value in labels.items():
        yield from _check_text(key, value)
        if str(key).startswith("ray.io/"):
            yield Finding(
                (key,), f"label {shorten(key)} is reserved: Ray sets those that begin with 'ray.io/'", "", True
            )
        elif not _LABEL_KEY.fullmatch(str(key)):
            yield Finding((key,), f"{shorten(key)} is not a label", allowed, True)
        if isinstance(value, str) and not _LABEL_VALUE.fullmatch(value):
            yield Finding((key,), f"{shorten(value)} is not a label's value", allowed)


def _check_text(name: Any, value: Any) -> Iterator[Finding]:
    """Lists and mappings are no text. Numbers and booleans are taken as written, by whoever knows the text."""
    if isinstance(value, list | dict):
        yield Finding((name,), f"{str(name)!r} must be text, not a {'list' if isinstance(value, list) else 'mapping'}")


def read_moment(value: Any) -> str:
    """A moment as it is kept, compared and shown: "2026-12-01T08:00:00Z"."""
    return parse_moment(value).strftime("%Y-%m-%dT%H:%M:%SZ")


NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
# "x-unit" is for the reference; editors pass over it
_DURATION_SCHEMA = {"type": ["string", "number"], "pattern": DURATION_PATTERN, "minimum": 0, "x-unit": "duration"}
_AMOUNTS_SCHEMA = {
    "type": "object",
    "x-unit": "amounts",
    "properties": {"memory": SIZE_SCHEMA, "object_store_memory": SIZE_SCHEMA},
    "additionalProperties": {"type": "number", "minimum": 0},
}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]  # seconds
Moment = Annotated[str, BeforeValidator(read_moment), WithJsonSchema({"type": "string", "pattern": MOMENT_PATTERN})]
# numbers and booleans without quotes are taken as they are written, where text is wanted
Text = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Amounts = Annotated[dict[str, float], BeforeValidator(read_amounts), WithJsonSchema(_AMOUNTS_SCHEMA)]
Env = Annotated[dict[str, Text], BeforeValidator(read_env)]
Labels = Annotated[dict[str, Text], BeforeValidator(read_labels)]
Count = Annotated[int, Field(ge=0)]
Money = Annotated[float, Field(ge=0)]  # US dollars
