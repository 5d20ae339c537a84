"""Every call that Azure's services take: verb, path, version, parameters, and the model of its body."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.cloud.azure.schema.models import Models, Type
from tests.cloud.azure.schema.packages import Package, packages

_TOP = re.compile(r"^(?=(?:class|def) )", re.M)
_METHOD = re.compile(r"^    def ", re.M)
_URL = re.compile(r'_url = (?:kwargs\.pop\(\s*"template_url",\s*)?\(?\s*((?:"[^"]*"\s*(?:#[^\n]*)?\s*)+)')
_VERSION = re.compile(r'"api-version", "([\w.-]+)"')
_VERB = re.compile(r'method="(\w+)"')
_QUERY = re.compile(r'^( +)_params\["([^"]+)"\]', re.M)
_BUILT = re.compile(r"\bbuild_(\w+)_request\(")
_BODY = re.compile(r"\w+: (Optional\[)?\s*Union\[\s*((?:list|List)\[)?_models\.(\w+)[^:]*?\bIO\b")
_PROVIDED = re.compile(r"/providers/(?!.*/providers/)([^{/]+)/(.+)", re.I)  # the last of them
_GROUP = re.compile(r"/subscriptions/[^/]+/resourceGroups(/[^/]+)?", re.I)
_STATUSES = re.compile(r"status_code not in \[([^\]]*)\]")
_GENERIC = ("{resourceId}", "{parentResourcePath}", "{resourceProviderNamespace}/{")  # these would take any path


@dataclass(frozen=True)
class Route:
    """`operation` is such as virtualMachines.createOrUpdate, `long` says that it answers before it is done, `statuses` which
    answers are well."""

    operation: str
    verb: str
    template: str
    version: str
    query: frozenset[str]
    required: frozenset[str]  # of the query
    body: Type | None
    needs_body: bool
    long: bool
    statuses: frozenset[int]

    def status(self, *preferred: int) -> int:
        """The first of these that is one of them."""
        return next((status for status in preferred if status in self.statuses), preferred[0])

    @functools.cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.template.strip("/").split("/"))


@dataclass
class _Node:
    """One segment of paths: names by their lower-case text, or a parameter."""

    names: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    routes: dict[str, Route] = field(default_factory=dict)

    def add(self, segments: tuple[str, ...], route: Route) -> None:
        node = self
        for segment in segments:
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.names.setdefault(segment.lower(), _Node())
        node.routes.setdefault(route.verb, route)

    def find(self, segments: list[str]) -> Iterator[_Node]:
        """Names before parameters."""
        if not segments:
            yield self
            return
        inner = self.names.get(segments[0].lower())
        if inner:
            yield from inner.find(segments[1:])
        if self.parameter:
            yield from self.parameter.find(segments[1:])


class Routes:
    def __init__(self) -> None:
        self._whole, self._scoped = _Node(), _Node()
        self.by_operation: dict[str, Route] = {}
        self.types: dict[str, str] = {}  # of resources that can be put: in lower case -> as Azure writes it
        for package in packages():
            for route in _of(package):
                self._add(route)
        # Azure's documents ask for the caller's own permissions at a subscription, too; the package knows groups only
        of_group = self.by_operation["permissions.listForResourceGroup"]
        template = "/{scope}/providers/Microsoft.Authorization/permissions"
        self._add(replace(of_group, operation="permissions.listAt", template=template))

    def _add(self, route: Route) -> None:
        scoped = route.segments[0] in ("{scope}", "{resourceScope}", "{resourceUri}")
        (self._scoped if scoped else self._whole).add(route.segments[1:] if scoped else route.segments, route)
        self.by_operation.setdefault(route.operation, route)
        kind = type_of(route.template)
        if route.verb == "PUT" and kind and route.segments[-1].startswith("{"):
            self.types.setdefault(kind.lower(), kind)

    def find(self, verb: str, path: str) -> tuple[Route | None, dict[str, str], list[str]]:
        """(the route, the parameters in the path, verbs that the path takes)."""
        segments = path.strip("/").split("/")
        verbs: list[str] = []
        for route, given in self._candidates(segments, verbs, verb):
            return route, given, verbs
        return None, {}, verbs

    def _candidates(
        self, segments: list[str], verbs: list[str], verb: str
    ) -> Iterator[tuple[Route, dict[str, str]]]:  # fmt: skip
        for node in self._whole.find(segments):
            verbs.extend(node.routes)
            if route := node.routes.get(verb):
                yield route, _given(route.segments, segments)
        at = max((i for i, s in enumerate(segments) if s.lower() == "providers"), default=None)
        if at is None:
            return
        for node in self._scoped.find(segments[at:]):
            verbs.extend(node.routes)
            if route := node.routes.get(verb):
                scope = "/".join(segments[:at])
                yield route, _given(route.segments, [scope, *segments[at:]])


def _given(template: tuple[str, ...], segments: list[str]) -> dict[str, str]:
    return {t[1:-1]: s for t, s in zip(template, segments, strict=True) if t.startswith("{")}


@functools.cache
def routes() -> Routes:
    return Routes()


@functools.lru_cache(maxsize=1 << 16)
def type_of(path: str) -> str:
    """`Microsoft.Network/virtualNetworks/subnets` of the id of a subnet, or of the path of all of them; "" for what is no
    provider's."""
    found = _PROVIDED.search(path)
    if found is None:
        return "Microsoft.Resources/resourceGroups" if _GROUP.fullmatch(path) else ""
    return "/".join([found.group(1), *found.group(2).strip("/").split("/")[::2]])


# ---------------------------------------------------------------- reading


def _of(package: Package) -> Iterator[Route]:
    """Modules have builders of the same names, each before the classes that call them."""
    models, builders = Models(package), dict[str, str]()
    for chunk in _TOP.split(package.operations()):
        if chunk.startswith("def build_"):
            builders[chunk[len("def build_") : chunk.index("_request(")]] = chunk
        elif chunk.startswith("class "):
            yield from _of_class(chunk, builders, models)


def _of_class(chunk: str, builders: dict[str, str], models: Models) -> Iterator[Route]:
    group = re.sub(r"(Operations|OperationsMixin)$", "", re.match(r"class (\w+)", chunk).group(1).lstrip("_"))  # type: ignore[union-attr]
    for method in _METHOD.split(chunk)[1:]:
        built = _BUILT.search(method)
        if built is None or built.group(1) not in builders:
            continue
        name = re.match(r"\w+", method).group().strip("_").removesuffix("_initial").removeprefix("begin_")  # type: ignore[union-attr]
        route = _route(f"{_lower(group)}.{_camel(name)}", builders[built.group(1)], method, models)
        if route:
            yield route


def _route(operation: str, builder: str, method: str, models: Models) -> Route | None:
    url, verb, version = _URL.search(builder), _VERB.search(builder), _VERSION.search(builder)
    if url is None or verb is None or version is None:
        return None
    template = "".join(re.findall(r'"([^"]*)"', url.group(1)))
    if any(part in template for part in _GENERIC):
        return None
    body = _BODY.search(method[: method.index(") -> ")])
    kind: Any = None
    if body:
        kind = models.reference(body.group(3))
        kind = Type("list", inner=kind) if body.group(2) else kind
    query = _QUERY.findall(builder)
    return Route(
        operation,
        verb.group(1),
        template,
        version.group(1),
        frozenset(name for _, name in query),
        frozenset(name for indent, name in query if len(indent) == 4) - {"api-version"},
        kind,
        body is not None and not body.group(1),
        re.match(r"\w+", method).group().endswith("_initial"),  # type: ignore[union-attr]
        frozenset(int(status) for status in re.findall(r"\d+", _STATUSES.search(method).group(1))),  # type: ignore[union-attr]
    )


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
