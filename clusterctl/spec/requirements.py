"""Requirements files: lines for an index, and nothing that means something on one machine only."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from clusterctl.core.errors import UsageError
from clusterctl.spec.faults import shorten

RAY_ITSELF = ("Ray itself is no package", "write `version` and `extras` of `engine.ray`")
MAX_BYTES = 1024 * 1024
_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDED = re.compile(r"(?:-r|--requirement)(?:\s+|=)(.+)")


def wrong_requirement(line: str) -> tuple[str, str] | None:
    """What is wrong with a line, and what to write instead; None for one that an index can meet."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        fix = (
            "write a name, with a version if need be, as in torch==2.13.0; an index is named where uv or pip is set up"
        )
        return f"{shorten(line)} is no requirement", fix
    if wanted.url:
        fix = f"write `{wanted.name}`, and name the index or directory that has it where uv or pip is set up"
        return f"{shorten(line)} names a file: packages come from an index", fix
    return None


def read_requirements(file: Path) -> list[str]:
    """The requirements in `file` and in those that it includes (`-r`), in their order. Raises UsageError with file and line."""
    return _read(file, ())


def _read(file: Path, above: tuple[Path, ...]) -> list[str]:
    if file.resolve() in above:
        raise UsageError(f"{file} includes itself: take the line with `-r` out")
    try:
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise UsageError(f"the requirements {file} cannot be read ({why}): check its path, mode and content") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"the requirements {file} are over 1 MiB: that is no list of packages")
    found: list[str] = []
    for number, line in _lines(text):
        included = _INCLUDED.fullmatch(line)
        if included:
            found += _read(file.parent / included[1].strip(), (*above, file.resolve()))
            continue
        what, fix = _wrong(line) or ("", "")
        if what:
            raise UsageError(f"{file}:{number}: {what} ({fix})")
        found.append(line)
    return found


def _wrong(line: str) -> tuple[str, str] | None:
    if " --hash" in line:
        return "hashes are not read here", "leave them out: each wheel is kept with its SHA-256 from the first time on"
    if line.startswith("-"):
        option = line.split()[0].partition("=")[0]
        return (
            f"{option} is not read here",
            "write names and versions; where packages come from is said where uv or pip is set up",
        )
    return wrong_requirement(line)


def _lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each that is not empty, without comments; a line that ends in a backslash goes on."""
    found: list[tuple[int, str]] = []
    begun, number = "", 0
    for at, line in enumerate(text.splitlines(), 1):
        number = number if begun else at
        if line.endswith("\\"):
            begun += line[:-1].rstrip() + " "
            continue
        whole = _COMMENT.sub("", begun + (line.lstrip() if begun else line)).strip()
        begun = ""
        if whole:
            found.append((number, whole))
    return found
