"""Whatever lies on PYTHONPATH, in the user's site or in the current directory, our own programs do not import it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_runtime.agent.bundle import build_bundle

from clusterctl.provision import isolated

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("clusterctl", "providers", "runtime", "templates")
NAMES = ("python", "interpreter", "str(python)")  # what holds a path of one, in our sources
ONLY_NAMED = "--python"  # told to uv, and not started


def commands(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Every list that has a Python in it, and what follows: its line, and its elements from the Python on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and isinstance(node.ctx, ast.Load):
            texts = [str(word.value) if isinstance(word, ast.Constant) else ast.unparse(word) for word in node.elts]
            for place, word in enumerate(node.elts[:-1]):
                if _is_python(word) and (place == 0 or texts[place - 1] != ONLY_NAMED):
                    yield node.lineno, texts[place:]
                    break


def _is_python(word: ast.expr) -> bool:
    if isinstance(word, ast.Starred):
        return False
    if isinstance(word, ast.Constant):
        return str(word.value).endswith("python3")
    text = ast.unparse(word)
    return text in NAMES or "sys.executable" in text or "python3'" in text


def python_files() -> Iterator[Path]:
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            if "starters" not in path.parts:  # programs of the user
                yield path


def is_cut_off(words: list[str]) -> bool:
    return words[1] in ("-I", "*_flags()", "*_ISOLATED")


def test_every_python_that_we_start_is_cut_off_from_its_surroundings() -> None:
    found = [
        (path.relative_to(ROOT), line, words)
        for path in python_files()
        for line, words in commands(ast.parse(path.read_text()))
    ]
    bad = [f"{path}:{line}: {' '.join(words)[:80]}" for path, line, words in found if not is_cut_off(words)]
    assert bad == []
    assert len(found) >= 15, "the places where we start Python are not recognised any more"


def test_so_is_every_python_of_a_shell_script() -> None:
    started = re.compile(r"""(?:"\$python"|"\$p"|%\(python\)s|/bin/python3|python3) (?P<option>-\S*)""")
    texts = [
        path.read_text()
        for path in sorted((ROOT / "templates").rglob("*"))
        if path.suffix in (".sh", ".service", ".j2")
    ]
    texts += [path.read_text() for path in sorted((ROOT / "clusterctl/provision/ssh").rglob("*.py"))]
    options = [match["option"] for text in texts for match in started.finditer(text)]
    assert set(options) <= {"-I", "-V"} and len(options) >= 7


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """An environment in which every module that we use first has a namesake that ends the program."""
    for name in ("json", "asyncio", "clusterctl_runtime", "clusterctl", "sitecustomize", "usercustomize", "pydantic"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    site = tmp_path / "home" / ".local" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (site / "usercustomize.py").write_text("raise SystemExit('shadowed')\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "HOME": str(tmp_path / "home")}


def test_the_programs_start_where_everything_is_shadowed(hostile: dict[str, str], tmp_path: Path) -> None:
    bundle, _ = build_bundle(tmp_path / "bundle")
    for argv in (
        [sys.executable, "-I", str(bundle), "--version"],
        isolated.module("clusterctl_runtime.head.supervisor"),
    ):
        done = subprocess.run(argv, env=hostile, cwd=tmp_path, capture_output=True, text=True)
        assert "shadowed" not in done.stderr and "Fatal Python error" not in done.stderr, done.stderr
    assert "IndexError" in done.stderr  # it came as far as to look for its directory


def test_what_they_start_for_the_user_still_has_the_users_path(hostile: dict[str, str], tmp_path: Path) -> None:
    say = "import json, os, subprocess; print(subprocess.check_output(['printenv', 'PYTHONPATH'], text=True), end='')"
    argv = [sys.executable, "-I", "-c", say]
    assert subprocess.run(argv, env=hostile, capture_output=True, text=True).stdout == f"{tmp_path}\n"


def test_whoever_has_us_on_the_path_only_starts_us_from_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "here"
    link.mkdir()
    code = (
        "import json, sys; from clusterctl.provision import isolated; isolated.sys.executable = sys.argv[1];"
        " print(json.dumps(isolated.module('m')))"
    )
    outside = tmp_path / "python"  # without any packages
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(outside)], check=True)
    bare = str(outside / "bin" / "python")
    site = [path for path in sys.path if path]
    done = subprocess.run(
        [bare, "-c", code, bare],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(site)},
        capture_output=True,
        text=True,
    )
    words = json.loads(done.stdout)
    assert "-I" not in words and words[-2:] == ["-m", "m"], done.stderr
