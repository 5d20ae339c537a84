"""The blocks of code of our pages, and how each is judged. A block says what it is; one that does not is wrong.

yaml          a spec, when it has `cluster:`; else its top-level keys are laid over the smallest spec of the page's provider, or
              of `provider=NAME`. Where keys come twice, each line is a spec of its own. `kind=serve`: Serve's config file.
console       commands of a shell, one a line; with prompts (`$ `) the lines between are what they print
python, json  what it says
text          anything else: what is printed, drawings
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from markdown_it import MarkdownIt

from clusterctl.cli.main import app
from clusterctl.client.serve.config import read_config
from clusterctl.core.errors import ClusterctlError
from clusterctl.spec.load import parse_places
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.support import unsupported

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PROVIDERS = {**{name: name for name in KINDS}, "rehearsing": "fake"}  # page -> whose keys it is about
ANY = "local"  # of other pages
# Without these a fragment is no spec. Machines that a provider has to be told are imagined.
SMALLEST = {"cluster": "cluster: demo\n", "pools": "pools: [{name: cpu, max: 3, resources: {CPU: 1}}]\n"}
POOLS = {
    "ssh": "pools: [{name: cpu, max: 3, hosts: [a.lab, b.lab, c.lab]}]\n",
    "fake": "pools: [{name: cpu, max: 3, instances: [small]}]\n",
}
SERVE = {"applications": "applications: [{name: chat, import_path: 'main:app'}]\n"}
_A_ROLE = re.compile(r"clusterctl \w+ 0{8}")  # what Azure calls one that we make
_KEY = re.compile(r"^([A-Za-z_]+):")


@dataclass(frozen=True)
class Block:
    """`line` of the page, counted from 1, is the one with the language. `info`: what stands there, "" for an indented one."""

    page: str
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def settings(self) -> dict[str, str]:
        return {word.partition("=")[0]: word.partition("=")[2] for word in self.info.split()[1:]}

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """`words` after `clusterctl`; `program` is what is called."""

    program: str
    words: tuple[str, ...] = field(default=())


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """Every block of a page, those in lists and quotes, too."""
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content)


def spans_of(text: str, page: str) -> Iterator[Block]:
    """Commands of ours in the middle of sentences: `language` is "span", and arguments may be left to the reader."""
    for token in MarkdownIt().parse(text):
        for part in token.children or ():
            if part.type == "code_inline" and part.content.startswith("clusterctl "):
                assert token.map is not None
                yield Block(page, token.map[0] + 1, "span", part.content)


def examples_of(text: str, page: str) -> Iterator[Block]:
    """The commands under `Example:` in what `--help` prints."""
    for block in blocks_of(text, page):
        shown = False
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            shown = bool(re.match(r"\s+Examples?:", line)) or (shown and bool(line.strip()))
            if shown and line.strip().startswith("clusterctl "):
                yield Block(page, block.line, "console", line.strip() + "\n")


def faults_of(block: Block) -> list[str]:
    """What is wrong with it, in sentences; none for a good one."""
    judges = {"yaml": _yaml, "console": _console, "span": _span, "python": _python, "json": _json, "text": _text}
    judge = judges.get(block.language)
    if judge is None:
        known = ", ".join(name for name in judges if name != "span")
        return [f"{block}: the block does not say what it is: begin it with three backticks and one of {known}"]
    return [f"{block}: {fault}" for fault in judge(block)]


def _yaml(block: Block) -> Iterator[str]:
    kind = block.settings.get("kind", "spec")
    if block.settings.keys() - {"kind", "provider"} or kind not in ("spec", "serve"):
        yield f"{block.info!r} says more than is known: kind=serve, provider=NAME"
        return
    if kind == "serve":
        yield from _serve_config(block)
        return
    for text in specs_in(block):
        try:
            for one in parse_places(text, "the spec").each:
                yield from (f"{fault}, in:\n{text}" for fault in unsupported(one.spec, one.located))
        except ClusterctlError as error:
            yield f"{error}, in:\n{text}"


def specs_in(block: Block) -> list[str]:
    """The whole specs that a block of YAML stands for."""
    keys = [match[1] for line in block.text.splitlines() if (match := _KEY.match(line))]
    if len(keys) > len(set(keys)):  # ways to write the same, one a line
        return [_laid_over(block, line + "\n") for line in block.text.splitlines() if line.strip()]
    return [block.text if "cluster" in keys else _laid_over(block, block.text)]


def _laid_over(block: Block, text: str) -> str:
    provider = block.settings.get("provider") or PROVIDERS.get(Path(block.page).stem, ANY)
    smallest = SMALLEST | {"provider": f"provider: {json.dumps(KINDS[provider].example)}\n"}
    smallest["pools"] = POOLS.get(provider, smallest["pools"])
    return text + "".join(line for key, line in smallest.items() if key not in _keys(text))


def _keys(text: str) -> set[str]:
    return {match[1] for line in text.splitlines() if (match := _KEY.match(line))}


def _serve_config(block: Block) -> Iterator[str]:
    file = Path("app.yaml")
    Path("code").mkdir(exist_ok=True)
    file.write_text(block.text + "".join(line for key, line in SERVE.items() if key not in _keys(block.text)))
    try:
        read_config(file)
    except ClusterctlError as error:
        yield str(error)


def _console(block: Block) -> Iterator[str]:
    for line in lines_of(block):
        try:
            for command in commands_in(line):
                if command.program in ("clusterctl", "cctl"):
                    parse(command.words)
        except ValueError as error:
            yield f"{line}: {error}"


def _span(block: Block) -> Iterator[str]:
    if _A_ROLE.fullmatch(block.text):
        return
    for command in commands_in(block.text):
        try:
            parse(command.words)
        except Unfinished:
            continue
        except ValueError as error:
            yield f"{block.text}: {error}"


def lines_of(block: Block) -> list[str]:
    """The lines that are typed, each with those that it goes on in."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return typed or [line for line in lines if line.strip()]


def commands_in(line: str) -> Iterator[Command]:
    """Every command of a shell's line. Raises ValueError for a quote that is not closed."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from commands_in(inner)
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "X", line), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                words.pop(0)
            if words:
                yield Command(words[0], tuple(words[1:]))
            words = []
        else:
            words.append(word)


class Unfinished(ValueError):
    """A verb without the arguments that it needs."""


def parse(words: tuple[str, ...]) -> None:
    """As the command line itself reads them, up to where it would begin to run. Raises ValueError with what it says."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    name, parent = "clusterctl", None
    try:
        while True:
            context = command.make_context(name, rest, parent=parent)
            if not hasattr(command, "resolve_command"):
                return
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            parent = context
    except Exception as error:
        if type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError"):
            raise Unfinished(f"{name} needs more arguments") from error
        said = getattr(error, "format_message", None)
        if said is not None:
            raise ValueError(said()) from error
        if type(error).__name__ != "Exit":  # of --help and --version
            raise


def _python(block: Block) -> Iterator[str]:
    try:
        ast.parse(block.text)
    except SyntaxError as error:
        yield f"line {error.lineno}: {error.msg}"


def _json(block: Block) -> Iterator[str]:
    try:
        json.loads(block.text)
    except ValueError as error:
        yield str(error)


def _text(block: Block) -> Iterator[str]:
    for line in block.text.splitlines():
        if re.match(r"(\$ )?(clusterctl|cctl) [a-z]", line) and not line.startswith("clusterctl/"):
            yield f"{line!r} is a command, and the block calls itself text: call it console"
