"""What all models of a spec are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from clusterctl.spec.units import SIZE_PATTERN, parse_size

# "x-unit" is for the reference; editors pass over it
SIZE_SCHEMA = {"type": ["string", "integer"], "pattern": SIZE_PATTERN, "minimum": 0, "x-unit": "size"}
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]  # bytes


class SpecModel(BaseModel):
    """Base of all: unknown keys are refused, nothing is guessed (`true` is no number, "3" is no number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def form_of(value: Any) -> str | None:
    """Which form of a key that has several was written: "text", "list" or "mapping"."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        return "list"
    return "mapping" if isinstance(value, dict | BaseModel) else None
