"""What an image is made of: a fixed script with one JSON document, and a digest of all that goes into it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources

from clusterctl.core.errors import BadRequest
from clusterctl_providers.base import ImageRecipe


def content_of(base: str, arch: str, recipe: ImageRecipe, disk: int) -> str:
    """A digest that is equal for images that would be the same. `base` is the image's id, `disk` in bytes."""
    facts = [base, arch, recipe.ray, sorted(recipe.extras), sorted(recipe.packages)]
    facts += [sorted(recipe.env.items()), disk, script()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def script() -> str:
    """The text of image.sh as it ships; it is part of what `content_of` digests."""
    return (
        resources.files("clusterctl_templates").joinpath("cloud-init").joinpath("image.sh").read_text(encoding="utf-8")
    )


def user_data(recipe: ImageRecipe, content: str, linger: float = 0.0) -> str:
    """The script and its document; `linger`: seconds that the machine stays on after its last word. Raises BadRequest for an
    index that needs a password: user data is no place for secrets."""
    _refuse_secrets(recipe.env)
    facts = {"requirements": list(recipe.requirements), "ray": recipe.ray, "content": content}
    document = {**facts, "env": dict(recipe.env), "linger": linger}
    return f"{script().rstrip()}\n{json.dumps(document, separators=(',', ':'))}\n"


def with_password(env: Mapping[str, str]) -> str:
    """The first variable whose address has a user or a password in it; "" for none."""
    return next((name for name, value in env.items() if re.search(r"://[^/@\s]+@", value)), "")


def _refuse_secrets(env: Mapping[str, str]) -> None:
    if name := with_password(env):
        raise BadRequest(
            f"{name} has a password in its address, and what an instance is started with can be read by others: use an "
            "index that needs none, or make the image yourself"
        )
