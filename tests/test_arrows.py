"""Import arrows point one way (docs/architecture.md), and no modules import each other in a circle. Read from the syntax
trees: lazy imports inside functions count, and those under `if TYPE_CHECKING`, too. Who needs another's types knows it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
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
    for name in ("client", "config", "demand", "environment", "images", "index", "requirements", "wheelhouse")
}

LEAVES = {"clusterctl_runtime.files", "clusterctl_runtime.backoff"}  # standard library only: for all that do I/O

# part -> parts that it may import from (always itself). The longest prefix of a module's name is its part.
ARROWS: dict[str, set[str]] = {
    "clusterctl.core": set(),
    "clusterctl.version": set(),
    "clusterctl.proof": set(),
    "clusterctl.spec": {"clusterctl.core", "clusterctl.version", "clusterctl_templates"},
    "clusterctl.provision": {
        *LEAVES,
        "clusterctl.core", "clusterctl.spec", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.wire", "clusterctl_templates",
    },
    "clusterctl.client": {
        *LEAVES,
        "clusterctl.proof",
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.agent.bundle", "clusterctl_runtime.agent.preparing.in_image",
        "clusterctl_runtime.engine.environment", "clusterctl_runtime.engine.images", "clusterctl_runtime.engine.index",
        "clusterctl_runtime.engine.requirements", "clusterctl_runtime.engine.wheelhouse",
    },
    "clusterctl.cli": {
        *LEAVES,
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.client", "clusterctl.version",
        "clusterctl.simulation", "clusterctl.kuberay", "clusterctl.importing", "clusterctl_providers",
        "clusterctl_templates", "clusterctl_runtime",
    },
    "clusterctl.kuberay": {
        "clusterctl.core", "clusterctl.spec", "clusterctl_providers.catalog", "clusterctl_runtime.engine.images",
    },
    "clusterctl.importing": {"clusterctl.core", "clusterctl.spec", "clusterctl.kuberay"},
    "clusterctl.simulation": {
        *LEAVES,
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
    },
    "clusterctl.__main__": {"clusterctl.cli"},
    "clusterctl": {"clusterctl.version"},
    "clusterctl_providers": {
        *LEAVES,
        "clusterctl.core.model", "clusterctl.core.errors", "clusterctl.core.resources", "clusterctl_runtime.agent.facts",
    },
    "clusterctl_templates": set(),
    **{leaf: set() for leaf in LEAVES},
    "clusterctl_runtime.wire": set(),
    "clusterctl_runtime.agent.facts": set(),  # alone: it is also sent to hosts that have nothing of ours
    # The engine has two sides: what the agent's bundle carries knows nothing of the core, the head's side does.
    "clusterctl_runtime.engine": {*LEAVES, "clusterctl_runtime.wire"},
    "clusterctl_runtime.agent": {
        *LEAVES, "clusterctl_runtime.wire", "clusterctl_runtime.engine", "clusterctl_runtime.agent.facts",
    },
    **{part: {*LEAVES, "clusterctl.core", "clusterctl.spec", "clusterctl_runtime.engine", *HEAD_SIDE} for part in HEAD_SIDE},
    "clusterctl_runtime.dashboard": set(),
    "clusterctl_runtime.entry": {*LEAVES},
    "clusterctl_runtime.head": {
        *LEAVES,
        "clusterctl.proof",
        "clusterctl.core", "clusterctl.spec", "clusterctl.provision", "clusterctl.version", "clusterctl_providers",
        "clusterctl_runtime.wire", "clusterctl_runtime.engine", *HEAD_SIDE, "clusterctl_runtime.dashboard",
        "clusterctl_runtime.entry",
        "clusterctl_runtime.agent.bundle",
        "clusterctl_templates",
    },
    "clusterctl_runtime": set(),
}  # fmt: skip


def _modules(places: Mapping[str, Path] = PLACES) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for package, directory in places.items():
        for path in sorted(directory.rglob("*.py")):
            parts = [package, *path.relative_to(directory).with_suffix("").parts]
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def _part(module: str) -> str:
    return max((part for part in ARROWS if module == part or module.startswith(part + ".")), key=len)


def _imported(module: str, path: Path) -> set[tuple[int, str]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[tuple[int, str]] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, name.name) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            found |= {(node.lineno, f"{base}.{name.name}") for name in node.names}
    return found


def _circle(places: Mapping[str, Path]) -> list[str]:
    """Modules that import each other, each the next and the last the first; [] when there is no circle."""
    modules = dict(_modules(places))
    graph = {
        module: {
            target for _, name in _imported(module, path) if (target := _module_of(name, modules)) not in ("", module)
        }
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # it names each before the one that imports it
    return []


def _module_of(name: str, modules: Collection[str]) -> str:
    """The module from which `name` is imported; "" when it is none of ours."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize(("module", "path"), _modules(), ids=[name for name, _ in _modules()])
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    part = _part(module)
    allowed = ARROWS[part] | {part}
    for line, name in _imported(module, path):
        if name.split(".")[0] not in OURS:
            continue
        inside = any(
            name == target or (name.startswith(target + ".") and len(target) >= len(_part(name))) for target in allowed
        )
        own = part == "clusterctl" and name in {"clusterctl.version", "clusterctl.version.__version__"}
        assert inside or own, f"{path.relative_to(ROOT)}:{line} imports {name}, which {part} must not"


def test_every_part_of_the_arrows_exists() -> None:
    names = {name for name, _ in _modules()}
    assert set(ARROWS) <= names | set(OURS)


def test_no_modules_import_each_other_in_a_circle() -> None:
    circle = _circle(PLACES)
    assert not circle, "these modules import each other in a circle, move down what they share: " + " -> ".join(circle)


def test_a_circle_is_seen_through_packages_functions_and_imports_for_types_only(tmp_path: Path) -> None:
    files = {
        "__init__": "",
        "first": "from house.rooms import second\n",
        "rooms/__init__": "",
        "rooms/second": "def open():\n    from ..third import window\n",
        "third": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.first import Door\n",
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    circle = _circle({"house": tmp_path})
    assert circle[0] == circle[-1]
    begin = circle.index("house.first")
    around = [*circle[begin:-1], *circle[:begin]]
    assert around == ["house.first", "house.rooms.second", "house.third"]
    (tmp_path / "third.py").write_text("")
    assert _circle({"house": tmp_path}) == []
