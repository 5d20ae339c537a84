"""A job from what the user said to a JobRequest that the head has on disk.

The submission id is minted here, before the first try: however often the request must be made, it is one job.
"""

from __future__ import annotations

import base64
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import UsageError


@dataclass(frozen=True)
class Wanted:
    """What to run and with what. `argv` are the script's arguments, or the whole command when `script` is None.
    `memory` in bytes per node, `timeout` in seconds; `cpus` None = not said."""

    argv: list[str]
    script: Path | None = None
    working_dir: Path | None = None
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    nodes: int | None = None  # None = not said: a plain program, no rank of a gang
    cpus: float | None = None
    gpus: float = 0.0
    gpu_type: str = ""
    memory: int = 0
    resources: dict[str, float] = field(default_factory=dict)
    pool: str = ""
    priority: int = 0
    user: str = ""
    max_retries: int | None = None
    timeout: float | None = None
    array: list[int] | None = None
    array_limit: int | None = None
    after: list[str] = field(default_factory=list)
    submission_id: str = ""
    engine: bool = True
    needs_engine: bool = False
    requirements: list[str] = field(default_factory=list)
    piped: bool = False  # the script is what came in by standard input

    @property
    def asks_for_something(self) -> bool:
        """Whether any flag says what a node must have: then it is a queue job, not a driver on the head node."""
        amounts = (self.cpus is not None, self.gpus, self.gpu_type, self.memory, self.resources, self.pool)
        return any(amounts) or self.nodes is not None or self.array is not None


@dataclass(frozen=True)
class ScriptLocation:
    """Where a script lies inside its package: `root` is packed whole, or only the file when `root` is None; `alone` says why."""

    root: Path | None
    script: str
    alone: str = ""


def mint_id() -> str:
    """A new job id, which nobody can guess."""
    return "j-" + base64.b32encode(secrets.token_bytes(5)).decode().lower()


def place_script(script: Path, working_dir: Path | None) -> ScriptLocation:
    """What to pack for `script`: the working directory if one is named, else the current one when the script is in it.
    A home or the root of the file system is never packed unasked: then the script goes alone."""
    script = script.resolve()
    if not script.is_file():
        raise UsageError(f"there is no file {script}: name a Python file, or a command as in `submit -- CMD`")
    root = (working_dir or Path.cwd()).resolve()
    if script.is_relative_to(root):
        whole = working_dir is not None or root not in (Path.home(), Path(root.anchor), Path(tempfile.gettempdir()))
        if whole:
            return ScriptLocation(root, script.relative_to(root).as_posix())
        return ScriptLocation(None, script.name, f"{root} is not taken along unasked")
    if working_dir is not None:
        raise UsageError(f"{script} is not inside the working directory {root}: name a directory that holds it")
    return ScriptLocation(None, script.name, f"it is not in {root}")


def job_request(wanted: Wanted, package: str, script: str) -> dict[str, Any]:
    """The body of `POST /api/v1/jobs`."""
    first = wanted.argv[0].rsplit("/", 1)[-1] if wanted.argv else ""
    return {
        "submission_id": wanted.submission_id,
        "name": wanted.name or (script.rsplit("/", 1)[-1] if script else first),
        "argv": wanted.argv,
        "package": package,
        "script": script,
        "env": wanted.env,
        "nodes": wanted.nodes,
        "cpus": wanted.cpus,
        "gpus": wanted.gpus,
        "gpu_type": wanted.gpu_type,
        "memory": wanted.memory,
        "resources": wanted.resources,
        "pool": wanted.pool,
        "priority": wanted.priority,
        "user": wanted.user,
        "max_retries": wanted.max_retries,
        "timeout": wanted.timeout,
        "engine": wanted.engine,
        "needs_engine": wanted.needs_engine,
        "driver": bool(script) and wanted.engine and not wanted.asks_for_something,
        "array": wanted.array,
        "array_limit": wanted.array_limit,
        "after": wanted.after,
        "runtime_env": {},
        **({"requirements": wanted.requirements} if wanted.requirements else {}),  # a head of before does not know it
    }


def plan(api: Api, wanted: Wanted) -> dict[str, Any]:
    """What the head would do for this job now; nothing is packed, sent or taken in."""
    package, script = "", ""
    if wanted.script is not None:
        package, script = "0" * 64, place_script(wanted.script, wanted.working_dir).script
    return api.post("/api/v1/jobs:plan", job_request(wanted, package, script))


def submit(
    api: Api, wanted: Wanted, home: Path | None = None, say: Callable[[str], object] = lambda text: None
) -> dict[str, Any]:
    """Packs, uploads what the head does not have, and posts; returns {"id", "state"} once the head has it on disk. `home`
    is never packed: the tokens of clusters lie there. `say` is told what of the directory did not travel."""
    return api.post_once("/api/v1/jobs", packed_request(api, wanted, home, say))


def packed_request(api: Api, wanted: Wanted, home: Path | None, say: Callable[[str], object]) -> dict[str, Any]:
    """The body of `POST /api/v1/jobs`, once all that the job needs is on the head."""
    check_text(wanted)
    after = [_by_id(api, item) for item in wanted.after]
    package, script = "", ""
    if wanted.script is not None:
        place = place_script(wanted.script, wanted.working_dir)
        if place.alone and not wanted.piped:
            say(f"{place.script} travels alone, since {place.alone}: --working-dir DIR takes a directory along")
        package, script = _upload(api, place, wanted.script, home, say), place.script
    elif wanted.working_dir is not None:
        package = _upload(api, ScriptLocation(wanted.working_dir, ""), None, home, say)
    return {**job_request(wanted, package, script), "after": after}


def _by_id(api: Api, item: str) -> str:
    """ID[:any|:ok] of JOB[:any|:ok]."""
    word, colon, how = item.partition(":")
    return f"{job_id(api, word)}{colon}{how}"


def check_text(wanted: Wanted) -> None:
    """Raises UsageError for words that are not UTF-8: a job's record is text, so that they could not arrive as they are."""
    words = [(f"argument {number} of the program", word) for number, word in enumerate(wanted.argv, 1)]
    words += [(f"--env {name}", f"{name}={value}") for name, value in wanted.env.items()]
    words += [("the name of the script", str(wanted.script or "")), ("--name", wanted.name), ("--user", wanted.user)]
    for what, word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(word).decode(errors="backslashreplace")
            raise UsageError(
                f"{what} is not UTF-8 ({shown!r}): rename the file, or let the program read it from a file of the working "
                "directory, where any name and any byte can travel"
            ) from error


def _upload(api: Api, place: ScriptLocation, file: Path | None, home: Path | None, say: Callable[[str], object]) -> str:
    """Sends the place's root, or else `file` alone; returns the digest of the package."""
    from clusterctl.client.submit.packing import list_directory, list_file
    from clusterctl.client.submit.sending import send
    from clusterctl.client.submit.tree import say_notes, why_left_out

    if place.root is not None:
        tree = list_directory(place.root, without=home)
    else:
        assert file is not None
        tree = list_file(file.resolve())
    if place.root is not None and place.script and all(entry.path != place.script for entry in tree.entries):
        raise UsageError(f"{place.script} would not travel with {place.root}: {why_left_out(place.root, place.script)}")
    sent = send(api, tree, home)
    say_notes([*tree.notes, *sent.notes], say)
    if place.script in sent.gone:
        raise UsageError(f"{place.script} went while it was packed: submit again when it is there")
    return sent.digest
