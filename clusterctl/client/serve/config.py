"""What is to be served, from Serve's own config file or a module's application, checked as far as that goes without Ray.

The rest Serve judges itself, on the cluster: `located` finds the place in the file again that its answer is about.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterctl.core.errors import UsageError
from clusterctl.spec.document import Document, Node, compose
from clusterctl.spec.faults import Fault, SpecError, did_you_mean, shorten
from clusterctl.spec.faults import Path as Place

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*(:|\.)[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REMOTE = re.compile(r"[a-z0-9+]+://")
APPLICATION_KEYS = frozenset(
    """
    name route_prefix import_path runtime_env host port deployments autoscaling_policy args logging_config
    external_scaler_enabled
    """.split()  # noqa: SIM905  one below the other they are a page
)
DEPLOYMENT_KEYS = frozenset(
    """
    name num_replicas max_ongoing_requests max_queued_requests backpressure_config user_config autoscaling_config
    graceful_shutdown_wait_loop_s graceful_shutdown_timeout_s health_check_period_s health_check_timeout_s
    ray_actor_options placement_group_bundles placement_group_strategy placement_group_bundle_label_selector
    max_replicas_per_node logging_config request_router_config gang_scheduling_config deployment_actors
    rolling_update_percentage max_surge_percent
    """.split()  # noqa: SIM905  one below the other they are a page
)
TOP_KEYS = frozenset(
    """
    proxy_location http_options grpc_options controller_options logging_config tracing_config applications
    target_capacity
    """.split()  # noqa: SIM905  one below the other they are a page
)


@dataclass(frozen=True)
class Application:
    """`config` as Serve's schema has it, without its name, its route and the directory, which are beside it. `directory`: what is
    packed, None for what every node has already."""

    name: str
    route: str | None
    config: dict[str, Any]
    directory: Path | None


@dataclass(frozen=True)
class Config:
    """`options`: of all applications. `document`: the file that it is from, None for what was said on the command line."""

    applications: tuple[Application, ...]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    document: Document | None = None
    notes: tuple[str, ...] = ()

    def located(self, name: str, faults: Sequence[dict[str, str]]) -> SpecError | None:
        """What Serve said of an application, with its places in the file; None where there is no file."""
        index = next((i for i, one in enumerate(self.applications) if one.name == name), None)
        if self.document is None or index is None or not faults:
            return None
        found: dict[tuple[Place, str], list[str]] = {}
        for fault in faults:
            path = self._in_text(("applications", index, *_steps(fault["path"])))
            what = path[-1] if isinstance(path[-1], str) else fault["path"]
            found.setdefault((path, what), []).append(fault["message"])
        return SpecError(
            self.document.fault(path, f"{what}: {', or: '.join(dict.fromkeys(messages))}")
            for (path, what), messages in found.items()
        )

    def _in_text(self, path: Place) -> Place:
        """As far as the file has it: Serve's answer goes on with the names of types that it has tried."""
        assert self.document is not None
        while len(path) > 2 and self.document.node(path) is None:
            path = path[:-1]
        return path


def _steps(path: str) -> Iterator[str | int]:
    for step in path.split("."):
        if step:
            yield int(step) if step.isdigit() else step


# ------------------------------------------------------------ from the command line


def of_import_path(path: str, name: str, route: str | None, directory: Path | None) -> Config:
    """Raises UsageError."""
    if not IMPORT_PATH.fullmatch(path):
        raise UsageError(f"{path!r} is neither a file nor MODULE:APPLICATION, as in `serve deploy main:app`")
    if not _NAME.fullmatch(name):
        raise UsageError(_bad_name(name))
    if route is not None and (bad := _bad_route(route)):
        raise UsageError(f"--route-prefix: {bad}")
    return Config((Application(name, route, {"import_path": path}, (directory or Path.cwd()).resolve()),))


# ------------------------------------------------------------ from a file


def read_config(file: Path, name: str = "", directory: Path | None = None) -> Config:
    """`name`: of the only application, instead of the file's. `directory`: packed instead of the file's own. Raises SpecError
    with every fault's place."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return _Reader(compose(text, str(file)), file.resolve().parent, directory).read(name)


class _Reader:
    def __init__(self, document: Document, beside: Path, directory: Path | None) -> None:
        self._document, self._beside, self._directory = document, beside, directory
        self._faults: list[Fault] = []
        self._notes: list[str] = []

    def read(self, name: str) -> Config:
        root = self._document.root
        if not isinstance(root.value, dict):
            self._fault((), "Serve's config is a mapping with `applications`")
            raise SpecError(self._faults)
        self._keys((), root, TOP_KEYS)
        rows = self._document.node(("applications",))
        if rows is None or not isinstance(rows.value, list) or not rows.value:
            self._fault(("applications",), "a list of at least one application is missing here")
            raise SpecError(self._faults)
        if name and len(rows.value) > 1:
            raise UsageError(f"--name is for a file with one application, {self._document.name} has {len(rows.value)}")
        found = [self._application(("applications", index), node, name) for index, node in enumerate(rows.value)]
        self._twice([(one.name, "name", "name") for one in found if one])
        self._twice([(one.route, "route_prefix", "route") for one in found if one and one.route is not None])
        if self._faults:
            raise SpecError(self._faults)
        options = {key: value for key, value in root.data().items() if key != "applications"}
        return Config(tuple(one for one in found if one), options, self._document, tuple(self._notes))

    def _application(self, path: Place, node: Node, name: str) -> Application | None:
        if not isinstance(node.value, dict):
            self._fault(path, "an application is a mapping with `import_path`")
            return None
        self._keys(path, node, APPLICATION_KEYS)
        data = node.data()
        name = name or str(data.get("name") or "default")
        if not _NAME.fullmatch(name):
            self._fault((*path, "name"), _bad_name(name))
        route = data.get("route_prefix", "/")
        if route is not None and (bad := _bad_route(route)):
            self._fault((*path, "route_prefix"), bad)
        if not IMPORT_PATH.fullmatch(str(data.get("import_path") or "")):
            self._fault((*path, "import_path"), "it names the application, as in `import_path: main:app`")
        self._deployments(path, node)
        config = {key: value for key, value in data.items() if key not in ("name", "route_prefix")}
        return Application(name, route, config, self._packed(path, config))

    def _deployments(self, path: Place, node: Node) -> None:
        rows = self._document.node((*path, "deployments"))
        if rows is None:
            return
        if not isinstance(rows.value, list):
            self._fault((*path, "deployments"), "a list of deployments is wanted here")
            return
        for index, row in enumerate(rows.value):
            place = (*path, "deployments", index)
            if not isinstance(row.value, dict) or "name" not in row.value:
                self._fault(place, "a deployment is a mapping with the `name` that it has in the program")
                continue
            self._keys(place, row, DEPLOYMENT_KEYS)
            local = (*place, "ray_actor_options", "runtime_env")
            for key in ("working_dir", "py_modules"):
                if _is_local(self._value((*local, key))):
                    self._fault((*local, key), "name a directory of this machine in the application's runtime_env only")

    def _packed(self, path: Place, config: dict[str, Any]) -> Path | None:
        """The directory that travels; takes it out of the config."""
        environment = config.get("runtime_env")
        if environment is not None and not isinstance(environment, dict):
            self._fault((*path, "runtime_env"), "a mapping is wanted here")
            return None
        if _is_local((environment or {}).get("py_modules")):
            place = (*path, "runtime_env", "py_modules")
            self._fault(place, "modules of this machine do not travel by themselves", "put them into the working_dir")
        given = (environment or {}).get("working_dir")
        if given is None or self._directory is not None:
            wanted = self._directory or self._beside
        elif _is_local(given):
            wanted = self._beside / str(given)
        else:
            return None
        if not wanted.is_dir():
            self._fault((*path, "runtime_env", "working_dir"), f"there is no directory {wanted}")
        if environment is not None:
            config["runtime_env"] = {key: value for key, value in environment.items() if key != "working_dir"}
        return wanted.resolve()

    def _keys(self, path: Place, node: Node, known: Collection[str]) -> None:
        """Serve itself leaves out what it does not know, without a word: what looks like a slip is a fault."""
        assert isinstance(node.value, dict)
        for key in node.value:
            if key in known:
                continue
            if near := did_you_mean(key, known):
                self._faults.append(
                    self._document.fault((*path, key), f"unknown key {shorten(key)}", near, at_key=True)
                )
            else:
                line, column = self._document.place((*path, key), at_key=True)
                place = f"{self._document.name}:{line}:{column}"
                self._notes.append(f"{place}: {key!r} is not known here: Serve may leave it out without a word")

    def _twice(self, rows: Sequence[tuple[Any, str, str]]) -> None:
        seen: dict[Any, int] = {}
        for index, (value, key, noun) in enumerate(rows):
            if value in seen:
                self._fault(
                    ("applications", index, key), f"two applications have the {noun} {value!r}: give each its own"
                )
            seen.setdefault(value, index)

    def _value(self, path: Place) -> Any:
        node = self._document.node(path)
        return None if node is None else node.data()

    def _fault(self, path: Place, message: str, suggestion: str = "") -> None:
        self._faults.append(self._document.fault(path, message, suggestion))


def _is_local(value: Any) -> bool:
    """Whether a directory or file of this machine is meant, and no URI."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and not _REMOTE.match(one) for one in values)


def _bad_name(name: str) -> str:
    return f"{name!r} is no name of an application: letters, digits, '.', '_' and '-', at most 63"


def _bad_route(route: Any) -> str:
    """Why it cannot be a route; "" where it can."""
    if not isinstance(route, str) or not route.startswith("/"):
        return "a route begins with '/', as in /chat"
    if route != "/" and route.endswith("/"):
        return "a route does not end with '/'"
    return "a route has no blanks, braces, '?' or '#'" if re.search(r"[\s{}?#]", route) else ""
