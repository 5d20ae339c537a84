"""The reference of the command line, made from its own help: `python -m clusterctl.cli.reference docs/cli.md` renews the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from clusterctl.cli.main import SECTIONS, VERBS, app, load

BEGIN = "<!-- reference: begin -->"
END = "<!-- reference: end -->"
WIDTH = 100


def replaced(page: str) -> str:
    """`page` with what stands between the two marks made anew."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the reference: put {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"


def render() -> str:
    """Every command's help, as Markdown."""
    parts = [_block("clusterctl", typer.main.get_command(app))]
    for title, verbs in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in verbs:
            parts += [_block(f"clusterctl {path}", command) for path, command in _commands(name)]
    return "\n".join(parts)


def _commands(name: str) -> Iterator[tuple[str, Any]]:
    """The verb, or the verbs of a group, with the words that call them."""
    command = load(name, VERBS[name])
    inner = getattr(command, "commands", None)
    if inner:
        yield from ((f"{name} {word}", one) for word, one in inner.items())
    else:
        yield name, command


def _block(words: str, command: Any) -> str:
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}
    with command.make_context(words, [], resilient_parsing=True, **settings) as context:
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"### {words}\n\n```text\n{text.strip()}\n```\n"


def main(arguments: list[str]) -> int:
    """Rewrites the page in place. Returns the exit code, 2 for a wrong command line."""
    if len(arguments) != 1:
        print("usage: python -m clusterctl.cli.reference PAGE", file=sys.stderr)
        return 2
    page = Path(arguments[0])
    page.write_text(replaced(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
