"""Names of GPUs. Specs and the catalogue say "A100" or "A100-80GB"; drivers say "NVIDIA A100-SXM4-80GB" of the same device.

Names are compared word by word: an A100 has an "A10" in its name and is none, and neither is an A10G.
"""

from __future__ import annotations

import re

GIB = 1024**3
# Words of a driver's name that do not tell one model from another.
_BRANDS = frozenset({"nvidia", "tesla", "geforce", "grid", "quadro", "amd", "instinct"})
_NOISE = frozenset({"generation", "blackwell", "server", "edition", "hbm2", "hbm2e", "hbm3", "hbm3e", "oam"})
_SERIES = frozenset({"rtx", "gtx"})  # people leave them out: "A6000" is the RTX A6000
_FORM = re.compile(r"sxm\d?|pcie|nvl")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)gi?b")
_VIRTUAL = re.compile(r"\d+[abcq]")  # "A10-24Q" is (a part of) an A10
_TOLERANCE = 0.1  # drivers keep some of the memory to themselves: a T4 of 16 GB tells of 15 GiB


def split_memory(name: str) -> tuple[str, float | None]:
    """A name as a spec gives it without the size that may end it, and that size in GB: "A100-80GB" is ("A100", 80.0)."""
    plain = re.sub(r"[\s_-]+", "-", name.strip())
    match = re.fullmatch(r"(.+)-(\d+(?:\.\d+)?)GI?B", plain, re.IGNORECASE)
    return (match.group(1), float(match.group(2))) if match else (plain, None)


def is_model(found: str, memory: float, wanted: str) -> bool:
    """Whether the driver's device `found`, with `memory` bytes (0 = unknown), is what a spec calls `wanted`; "" = any."""
    if _joined(_words(found)) == _joined(_words(wanted)):
        return True
    name, size = split_memory(wanted)
    if size is not None and memory and abs(memory / GIB - size) > size * _TOLERANCE:
        return False
    forms = [word for word in _words(name) if _FORM.fullmatch(word)]
    return not name or (_model(found) == _model(name) and all(_has_form(found, form) for form in forms))


def model_of(found: str) -> str:
    """How a spec would call the driver's device: "NVIDIA A100-SXM4-80GB" is "A100"."""
    words = [word for word in re.split(r"[\s_-]+", found) if _tells(word.lower())]
    return "-".join(words)


def _has_form(found: str, form: str) -> bool:
    """Drivers name the form of all but the newest: an H100 that says neither PCIe nor NVL is an SXM."""
    words = _words(found)
    if form.startswith("sxm"):
        return any(word.startswith("sxm") for word in words) or not {"pcie", "nvl"} & set(words)
    return form in words


def _model(name: str) -> str:
    words = [word for word in _words(name) if _tells(word)]
    joined = _joined(words)
    return next(
        (joined.removeprefix(series) for series in _SERIES if joined != series and joined.startswith(series)), joined
    )


def _tells(word: str) -> bool:
    known = word in _BRANDS or word in _NOISE
    return not (known or _FORM.fullmatch(word) or _MEMORY.fullmatch(word) or _VIRTUAL.fullmatch(word))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_-]+", name.lower()) if word]


def _joined(words: list[str]) -> str:
    return "".join(words)
