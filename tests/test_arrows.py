"""Import arrows point one way (docs/architecture.md). Read from the syntax trees.

Lazy imports inside functions count. Imports under `if TYPE_CHECKING` do not: nothing is loaded by them.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = {
    "clusterctl": ROOT / "clusterctl",
    "clusterctl_providers": ROOT / "providers" / "clusterctl_providers",
    "clusterctl_runtime": ROOT / "runtime" / "clusterctl_runtime",
    "clusterctl_templates": ROOT / "templates" / "clusterctl_templates",
}
OURS = tuple(PLACES)

HEAD_SIDE = {
    f"clusterctl_runtime.engine.{name}"
    for name in ("client", "config", "demand", "environment", "images", "index", "wheelhouse")
}

# part -> parts that it may import from (always itself). The longest prefix of a module's name is its part.
ARROWS: dict[str, set[str]] = {
    "clusterctl.core": set(),
    "clusterctl.version": set(),
    "clusterctl.proof": set(),
    "clusterctl.spec": {"clusterctl.core", "clusterctl.version", "clusterctl_templates"},
    "clusterctl.provision": {
        "clusterctl.core", "clusterctl.spec", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.wire", "clusterctl_templates",
    },
    "clusterctl.client": {
        "clusterctl.proof",
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.agent.bundle", "clusterctl_runtime.engine.environment", "clusterctl_runtime.engine.index",
        "clusterctl_runtime.engine.wheelhouse",
    },
    "clusterctl.cli": {
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.client", "clusterctl.version",
        "clusterctl.simulation", "clusterctl_providers", "clusterctl_templates", "clusterctl_runtime",
    },
    "clusterctl.simulation": {
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
    },
    "clusterctl.__main__": {"clusterctl.cli"},
    "clusterctl": {"clusterctl.version"},
    "clusterctl_providers": {
        "clusterctl.core.model", "clusterctl.core.errors", "clusterctl.core.resources", "clusterctl_runtime.agent.facts",
    },
    "clusterctl_templates": set(),
    "clusterctl_runtime.wire": set(),
    "clusterctl_runtime.agent.facts": set(),  # alone: it is also sent to hosts that have nothing of ours
    # The engine has two sides: what the agent's bundle carries knows nothing of the core, the head's side does.
    "clusterctl_runtime.engine": {"clusterctl_runtime.wire"},
    "clusterctl_runtime.agent": {"clusterctl_runtime.wire", "clusterctl_runtime.engine", "clusterctl_runtime.agent.facts"},
    **{part: {"clusterctl.core", "clusterctl_runtime.engine", *HEAD_SIDE} for part in HEAD_SIDE},
    "clusterctl_runtime.engine.config": {"clusterctl.core", "clusterctl.spec", "clusterctl_runtime.engine", *HEAD_SIDE},
    "clusterctl_runtime.dashboard": set(),
    "clusterctl_runtime.head": {
        "clusterctl.proof",
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.wire", "clusterctl_runtime.engine", *HEAD_SIDE, "clusterctl_runtime.dashboard",
        "clusterctl_runtime.agent.bundle",
        "clusterctl_templates",
    },
    "clusterctl_runtime": set(),
}  # fmt: skip


def _modules() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for package, directory in PLACES.items():
        for path in sorted(directory.rglob("*.py")):
            parts = [package, *path.relative_to(directory).with_suffix("").parts]
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def _part(module: str) -> str:
    return max((part for part in ARROWS if module == part or module.startswith(part + ".")), key=len)


def _imported(module: str, path: Path) -> set[tuple[int, str]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[tuple[int, str]] = set()
    tree = ast.parse(path.read_text(), str(path))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {(node.lineno, name.name) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            found |= {(node.lineno, f"{base}.{name.name}") for name in node.names}
    return {(line, name) for line, name in found if name.split(".")[0] in OURS}


@pytest.mark.parametrize(("module", "path"), _modules(), ids=[name for name, _ in _modules()])
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    part = _part(module)
    allowed = ARROWS[part] | {part}
    for line, name in _imported(module, path):
        inside = any(
            name == target or (name.startswith(target + ".") and len(target) >= len(_part(name))) for target in allowed
        )
        own = part == "clusterctl" and name in {"clusterctl.version", "clusterctl.version.__version__"}
        assert inside or own, f"{path.relative_to(ROOT)}:{line} imports {name}, which {part} must not"


def test_every_part_of_the_arrows_exists() -> None:
    names = {name for name, _ in _modules()}
    assert set(ARROWS) <= names | set(OURS)
