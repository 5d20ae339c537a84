"""Serve's config file, read without Ray: what travels, and every fault with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.client.serve.config import Config, of_import_path, read_config
from clusterctl.core.errors import UsageError
from clusterctl.spec.faults import SpecError

TWO = """\
http_options: {port: 9000}
applications:
  - name: a
    route_prefix: /a
    import_path: one:app
    runtime_env: {working_dir: ./code, env_vars: {X: "1"}}
  - name: b
    route_prefix: /b
    import_path: two:app
    runtime_env: {working_dir: "https://example.com/b.zip"}
"""


def read(tmp_path: Path, text: str, directory: Path | None = None) -> Config:
    (tmp_path / "code").mkdir(exist_ok=True)
    file = tmp_path / "app.yaml"
    file.write_text(text)
    return read_config(file, directory=directory)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        read(tmp_path, text)
    return [
        f"{f.line}:{f.column} {f.message}{f' ({f.suggestion})' if f.suggestion else ''}" for f in error.value.faults
    ]


def test_a_local_directory_travels_and_a_uri_stays_as_it_is(tmp_path: Path) -> None:
    config = read(tmp_path, TWO)
    a, b = config.applications
    assert (a.name, a.route, a.directory) == ("a", "/a", tmp_path / "code")
    assert a.config == {"import_path": "one:app", "runtime_env": {"env_vars": {"X": "1"}}}
    assert b.directory is None and b.config["runtime_env"] == {"working_dir": "https://example.com/b.zip"}
    assert config.options == {"http_options": {"port": 9000}}


def test_without_a_working_dir_the_directory_of_the_file_travels_or_the_one_that_is_named(tmp_path: Path) -> None:
    text = "applications: [{import_path: 'one:app'}]\n"
    (only,) = read(tmp_path, text).applications
    assert (only.name, only.route, only.directory) == ("default", "/", tmp_path)
    (named,) = read(tmp_path, text, tmp_path / "code").applications
    assert named.directory == tmp_path / "code"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("applicatoins: []\n", "1:1 unknown key 'applicatoins' (did you mean 'applications'?)"),
        ("applications: []\n", "1:15 a list of at least one application is missing here"),
        ("applications:\n  - {name: a}\n", "2:5 it names the application, as in `import_path: main:app`"),
        ("applications:\n  - {import_path: 'a:b', route_prefix: x}\n", "2:40 a route begins with '/', as in /chat"),
        ("applications:\n  - {import_path: 'a:b', name: a~1}\n", "2:32 'a~1' is no name of an application"),
        (
            "applications:\n  - {name: a, import_path: 'a:b'}\n  - {name: b, import_path: 'a:b'}\n",
            "3:5 two applications have the route '/': give each its own",
        ),
        (
            "applications:\n  - import_path: a:b\n    deployments:\n      - {name: D, num_replcas: 2}\n",
            "4:19 unknown key 'num_replcas' (did you mean 'num_replicas'?)",
        ),
        (
            "applications:\n  - import_path: a:b\n    runtime_env: {py_modules: [./x]}\n",
            "3:31 modules of this machine do not travel by themselves (put them into the working_dir)",
        ),
        ("applications:\n  - import_path: a:b\n    runtime_env: {working_dir: ./none}\n", "3:32 there is no directory"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    assert any(fault.startswith(expected) for fault in faults(tmp_path, text)), faults(tmp_path, text)


def test_a_key_that_looks_like_no_slip_is_told_and_left_to_serve(tmp_path: Path) -> None:
    config = read(tmp_path, "applications: [{import_path: 'one:app', brand_new: 1}]\n")
    assert config.applications[0].config["brand_new"] == 1
    assert "1:41: 'brand_new' is not known here" in config.notes[0]


def test_what_serve_answers_is_found_again_in_the_file(tmp_path: Path) -> None:
    error = read(tmp_path, TWO).located(
        "b",
        [
            {"path": "route_prefix.str", "message": "no text"},
            {"path": "route_prefix.none", "message": "not nothing"},
            {"path": "deployments.0.num_replicas", "message": "too few"},
        ],
    )
    assert error is not None
    assert [(f.line, f.message) for f in error.faults] == [
        (7, "deployments.0.num_replicas: too few"),
        (8, "route_prefix: no text, or: not nothing"),
    ]


def test_a_module_is_named_as_serve_names_it() -> None:
    (one,) = of_import_path("main:app", "chat", "/chat", None).applications
    assert (one.config, one.directory) == ({"import_path": "main:app"}, Path.cwd())
    with pytest.raises(UsageError, match="neither a file nor MODULE:APPLICATION"):
        of_import_path("main", "chat", "/", None)
    with pytest.raises(UsageError, match="--route-prefix: a route begins with"):
        of_import_path("main:app", "chat", "chat", None)
