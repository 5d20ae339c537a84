from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.cli import reference
from clusterctl.cli.main import VERBS, load
from clusterctl.client.project import other_project
from clusterctl.client.registry import Registry
from clusterctl.client.up.engine_wheels import first_time
from clusterctl.spec.parts import Ray
from clusterctl.version import __version__

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize("name", VERBS)
def test_the_overview_says_what_the_verbs_own_help_says(name: str) -> None:
    command = load(name, VERBS[name])
    assert inspect.cleandoc(command.help or "").splitlines()[0] == VERBS[name].line


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_shows_an_example_and_has_the_shared_options(name: str) -> None:
    group = load(name, VERBS[name])
    for command in getattr(group, "commands", {}).values() or [group]:
        assert "Example" in command.help and f"clusterctl {name}" in command.help, command.name
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--cluster", "-c", "--json", "--quiet", "-q", "--verbose", "-v"} <= options, command.name


def test_the_reference_in_the_docs_is_what_help_prints() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert reference.replaced(text) == text, "run `python -m clusterctl.cli.reference docs/cli.md`"


def test_help_and_version(run) -> None:
    assert "clusterctl up cluster.yaml" in run("--help").stdout
    assert run("--version").stdout == f"clusterctl {__version__}\n"
    document = json.loads(run("version", "--json").stdout)
    assert document["version"] == __version__ and document["executable"] == sys.executable


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["statu"], "Did you mean 'status'"),
        (["submit"], "Missing argument"),
        (["submit", "--nodes", "0", "--", "true"], "Invalid value for '--nodes'"),
        (["submit", "--array", "9-1", "--", "true"], "--array '9-1': write it as 0-9"),
        (["submit", "--env", "=x", "--", "true"], "write K=V"),
        (["submit", "--resource", "TPU", "--", "true"], "write NAME=AMOUNT"),
        (["submit", "--memory", "much", "--", "true"], "is not a size"),
        (["submit", "--timeout", "0s", "--", "true"], "is not more than nothing"),
        (["submit", "--after", "a:maybe", "--", "true"], "ID:any for one that must end"),
        (["submit", "--cron", "* * * * *", "--", "true"], "--cron is not in this version yet"),
        (["submit", "echo", "hi"], "clusterctl submit -- echo hi"),
        (["validate", "missing.yaml"], "missing.yaml: no such file"),
        (["up", "missing.yaml"], "missing.yaml: no such file"),
        (["plan", "missing.yaml"], "missing.yaml: no such file"),
        (["validate"], "cluster.yaml: no such file"),
        (["plan"], "cluster.yaml: no such file"),
        (["up"], "cluster.yaml: no such file"),
        (["cost", "--by", "moon"], "--by 'moon'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done
    assert said in done.stderr and "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize(
    "verb",
    [
        ["status"],
        ["jobs"],
        ["nodes"],
        ["down"],
        ["down", "nope"],
        ["logs", "j-1"],
        ["submit", "--", "true"],
        ["dashboard"],
    ],
)
def test_without_a_cluster_every_verb_says_so_with_exit_code_3(run, verb: list[str]) -> None:
    done = run(*verb)
    assert done.returncode == 3 and "is known here" in done.stderr and not done.stdout


def test_faults_of_a_spec_come_with_file_line_and_column(run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("cluster: demo\nprovider: local\npools:\n  - {name: cpu, maxx: 3}\n")
    for verb in (["validate"], ["up"], ["plan"]):
        done = run(*verb, "bad.yaml")
        assert done.returncode == 2 and "bad.yaml:4:17: " in done.stderr and "max" in done.stderr
    document = json.loads(run("validate", "bad.yaml", "--json").stdout)
    assert not document["valid"] and (document["faults"][0]["line"], document["faults"][0]["column"]) == (4, 17)


def test_init_writes_what_validate_accepts_and_overwrites_nothing(run, tmp_path: Path) -> None:
    (tmp_path / "2. My Project").mkdir()
    assert run("init", "--provider", "local", "2. My Project").returncode == 0
    named = run("validate", "--json", cwd=tmp_path / "2. My Project")
    assert json.loads(named.stdout)["cluster"] == "my-project", "named after its directory"
    assert run("init", "--provider", "local").returncode == 0
    assert json.loads(run("validate", "cluster.yaml", "--json").stdout)["valid"]
    before = (tmp_path / "job.py").read_text()
    again = run("init")
    assert again.returncode == 2 and "would be overwritten" in again.stderr
    assert (tmp_path / "job.py").read_text() == before


def test_the_schema_for_editors_is_json(run) -> None:
    assert json.loads(run("validate", "--schema").stdout)["title"]


def test_what_this_version_cannot_do_is_refused_at_up_with_its_place(run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, resources: {CPU: 1}}]\nqueue: {preemption: true}\n"
    )
    assert run("validate", "c.yaml").returncode == 0
    done = run("up", "c.yaml")
    assert done.returncode == 2 and "c.yaml:5:" in done.stderr and not (tmp_path / "home" / "clusters").exists()


def test_a_cluster_that_up_never_finished_can_be_taken_down(run, tmp_path: Path) -> None:
    directory = tmp_path / "home" / "clusters" / "half"
    directory.mkdir(parents=True)
    (directory / "cluster.json").write_text(json.dumps({"name": "half", "uid": "7d0f0e9e-3f0a-4f57-9a4b-111111111111"}))
    assert run("status").returncode == 4
    assert run("down").returncode == 0 and not directory.exists()


INTERRUPTED = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from clusterctl.cli.start import run
run()
"""


def test_an_interrupt_in_the_first_moment_is_one_line_and_exit_code_130() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "clusterctl: interrupted\n")


def test_what_the_system_refuses_is_a_sentence_that_names_it(run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, resources: {CPU: 1}}]\n"
    )
    (tmp_path / "home").write_text("")
    done = run("up", "c.yaml")
    said = f"{tmp_path}/home is to be the directory for all that is kept (CLUSTERCTL_HOME), and is a file: name another"
    assert (done.returncode, done.stderr) == (1, f"clusterctl: {said}\n")
    (tmp_path / "home").unlink()
    (tmp_path / "home").mkdir()
    full = [sys.executable, "-m", "clusterctl", "up", "c.yaml"]
    environment = {**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home")}
    script = f'mount -t tmpfs -o size=64k tmpfs {tmp_path}/home && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *full],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"the disk of {tmp_path}/home" in done.stderr and "on this machine is full (" in done.stderr, done.stderr


def test_a_cluster_of_which_nothing_was_made_is_taken_down_without_asking_its_provider(run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "cluster: demo\nprovider: {aws: {region: us-east-1}}\nengine: none\npools: [{name: cpu, instances: [m7i.large]}]\n"
    )
    nobody = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nobody |= {"HOME": str(tmp_path), "CLUSTERCTL_HOME": str(tmp_path / "home"), "AWS_EC2_METADATA_DISABLED": "true"}
    up = run("up", "c.yaml", env=nobody)
    assert up.returncode == 1 and "no AWS credentials" in up.stderr, up.stderr
    down = run("down", "demo", env=nobody)
    assert down.returncode == 0 and "nothing was ever made of cluster demo: no provider is asked" in down.stderr, (
        down.stderr
    )
    assert not (tmp_path / "home" / "clusters" / "demo").exists()


def test_doctor_says_what_there_is(run) -> None:
    done = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {"python", "home", "disk", "ports", "ray", "ssh", "docker"} <= set(checks)
    assert all(check["fix"] for check in checks.values() if not check["ok"])
    assert done.returncode == (0 if all(c["ok"] or not c["needed"] for c in checks.values()) else 1)


def test_the_shared_options_may_stand_before_the_verb(run) -> None:
    assert json.loads(run("--json", "version").stdout)["version"] == __version__
    assert "no cluster named 'x'" in run("-c", "x", "status").stderr


@pytest.mark.parametrize("version", ["", "2.55.0"])
def test_a_ray_that_will_be_installed_is_announced_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    def installed(name: str) -> str:
        if not version:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr("importlib.metadata.version", installed)
    assert "is installed once below" in first_time(Ray(), tmp_path) and "MB to download" in first_time(Ray(), tmp_path)
    assert first_time(Ray(python="/opt/ray/bin/python"), tmp_path) == "", "nothing is installed where one is named"
    (tmp_path / "an-environment").mkdir()
    (tmp_path / "an-environment" / "engine.json").write_text('{"ray": "2.60.0", "extras": ["default", "serve"]}')
    assert first_time(Ray(version="2.60.0", extras=["serve"]), tmp_path) == "", "it is there"
    assert first_time(Ray(version="2.60.0", extras=["tune"]), tmp_path) != ""
    assert first_time(Ray(version="2.60.0", packages=["optuna"]), tmp_path).endswith("and more for optuna")


def test_plan_shows_the_machines_of_each_pool_with_their_prices_in_80_columns(run, tmp_path: Path) -> None:
    text = "cluster: demo\nprovider: fake\nengine: none\npools: [{name: cpu, min: 2, max: 4}]\n"
    (tmp_path / "c.yaml").write_text(text)
    document = json.loads(run("plan", "c.yaml", "--json").stdout)
    assert [(pool["name"], pool["at_once"]) for pool in document["pools"]] == [("head", 1), ("cpu", 2)]
    lines = run("plan", "c.yaml").stdout.splitlines()
    best = document["pools"][1]["choices"][0]
    (row,) = [line for line in lines if line.startswith("  cpu ")]
    assert row.split()[1:4] == ["2", "of", "4"] and best["type"] in row and "$" in row
    assert max(map(len, lines)) <= 80


def test_a_type_that_nobody_has_is_an_error_of_validate_and_of_plan_with_what_to_write(run, tmp_path: Path) -> None:
    text = "cluster: demo\nprovider: {aws: {region: us-east-1}}\npools: [{name: cpu, instances: [g5.xlrage]}]\n"
    (tmp_path / "c.yaml").write_text(text)
    for verb in ("validate", "plan"):
        done = run(verb, "c.yaml")
        assert done.returncode == 2 and "c.yaml:3:33: " in done.stderr and "did you mean 'g5.xlarge'?" in done.stderr
    (tmp_path / "c.yaml").write_text(text.replace("g5.xlrage", "c99x.large"))
    done = run("validate", "c.yaml")
    assert done.returncode == 0 and "warning: c.yaml:3:33: 'c99x.large' is not among" in done.stderr


def test_offers_need_no_cluster(run) -> None:
    lines = run("offers").stdout.splitlines()
    assert lines[0].startswith("TYPE") and any(line.startswith("and ") and line.endswith(" more") for line in lines)
    assert len({row["provider"] for row in json.loads(run("offers", "--gpu", "L4:1", "--json").stdout)["offers"]}) > 1


def project(directory: Path, name: str = "demo") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "cluster.yaml"
    path.write_text(f"cluster: {name}\nprovider: local\nengine: none\npools: [{{name: cpu, resources: {{CPU: 1}}}}]\n")
    return path


def test_two_projects_with_one_name_do_not_collide(run, tmp_path: Path) -> None:
    """The first is known and was begun; nothing of it needs to run for this."""
    first, second = project(tmp_path / "a"), project(tmp_path / "b")
    registry = Registry(tmp_path / "home")
    known = registry.create("demo", provider="local", engine="none", spec_path=str(first))
    uid = known.uid

    for verb in (["up", str(second), "-y"], ["down", str(second), "-y"]):
        done = run(*verb)
        assert done.returncode == 5 and str(first) in done.stderr and str(second) in done.stderr, done
    assert "--move-spec" in run("up", str(second), "-y").stderr and registry.load("demo").uid == uid
    assert str(first) in run("plan", str(second)).stdout, "plan warns of it"

    assert other_project(registry, "demo", first.parent / "variant.yaml") is None, (
        "a variant beside it is the same project"
    )
    (tmp_path / "link").symlink_to(first.parent)
    assert other_project(registry, "demo", tmp_path / "link" / "cluster.yaml") is None
    first.write_text(first.read_text().replace("demo", "renamed"))
    assert other_project(registry, "demo", second) is None, "that file has another cluster now"
    first.write_text("cluster: demo\npools: [")
    assert other_project(registry, "demo", second) == first, "it is being edited"
    first.unlink()
    assert other_project(registry, "demo", second) is None, "the project was moved"
