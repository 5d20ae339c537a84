"""The core decides and does nothing else; and nowhere is data turned into code. Read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "clusterctl" / "core").rglob("*.py"))
PRODUCT = sorted(
    path for part in ("clusterctl", "providers", "runtime", "templates") for path in (ROOT / part).rglob("*.py")
)

# What pure code may import besides itself. `datetime` is for calendar arithmetic on times that are passed in.
ALLOWED = {
    "__future__", "abc", "bisect", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "heapq",
    "itertools", "json", "math", "operator", "random", "re", "statistics", "string", "types", "typing", "uuid",
}  # fmt: skip
UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every call by its dotted name, as far as it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_imports_nothing_that_reaches_outside(path: Path) -> None:
    for line, module in _imports(_tree(path)):
        top = module.split(".")[0]
        assert top in ALLOWED or module.startswith("clusterctl.core"), f"{_name(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_reads_no_clock_no_environment_no_file_and_no_entropy(path: Path) -> None:
    seeded = {"random.Random"}  # a generator with a seed that was passed in
    for line, call in _calls(_tree(path)):
        place = f"{_name(path)}:{line} calls {call}"
        last = call.rpartition(".")[2]
        assert call not in {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}, place
        assert last not in {"now", "today", "utcnow", "uuid1", "uuid4", "getenv", "getLogger", "urandom"}, place
        assert not call.startswith("random.") or call in seeded, place


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_generators_in_the_core_are_always_seeded(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"random.Random", "Random"}:
            assert node.args, f"{_name(path)}:{node.lineno} makes a random generator without a seed"
        assert not isinstance(node, ast.Global | ast.AsyncFunctionDef), f"{_name(path)}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_keeps_no_state_between_calls(path: Path) -> None:
    """No module-level list, dict or set that a function could fill: tables are constants in capitals or frozen."""
    for node in _tree(path).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if isinstance(value, ast.List | ast.Dict | ast.Set):
            for target in targets:
                assert ast.unparse(target).strip("_").isupper(), f"{_name(path)}:{node.lineno} {ast.unparse(target)}"


@pytest.mark.parametrize("path", PRODUCT, ids=_name)
def test_no_data_becomes_code_anywhere_in_the_product(path: Path) -> None:
    tree = _tree(path)
    for line, module in _imports(tree):
        assert module.split(".")[0] not in UNSAFE_MODULES, f"{_name(path)}:{line} imports {module}"
    for line, call in _calls(tree):
        place = f"{_name(path)}:{line} calls {call}"
        assert call not in {"eval", "exec", "builtins.eval", "builtins.exec"}, place
        module, _, last = call.rpartition(".")
        assert not (module == "yaml" and last in UNSAFE_YAML), place
