"""Every call of the OpenAPI document with arbitrary paths, queries and bodies: answered with a sentence, never with a 500."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.knocking import Answer, Api
from tests.support.cluster import LocalCluster

METHODS = ("get", "put", "post", "delete", "patch", "head")
ENDS_THE_CLUSTER = ("post", "/api/v1/down")
STREAMS = {"follow", "watch"}  # parameters that keep an answer open
EXAMPLES = int(os.environ.get("CLUSTERCTL_FUZZ_EXAMPLES", "25"))  # per call
JOB = {"argv": ["true"]}

texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5),  # half characters, too
    st.sampled_from(
        ["", "..", "%2e%2e%2f", "j-0", "cpu-1", "head-1", "\0", "x" * 5000, "-1", "1e400", "NaN", "💣", "\u202e"]
    ),
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63, -(2**63) - 1, 2**70, 1e308, -0.0, 10**30]))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A cluster of its own: what is put in here may change its spec and drain its nodes."""
    cluster = LocalCluster(
        tmp_path_factory.mktemp("fuzzed"),
        "cluster: demo\nprovider: local\nengine: none\npools: [{name: cpu, min: 0, max: 1, resources: {CPU: 2}}]\n",
    )
    try:
        cluster.up()
        yield Api(cluster)
    finally:
        cluster.clean_up()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in sorted(document["paths"].items())
        for method, operation in sorted(item.items())
        if method in METHODS and (method, path) != ENDS_THE_CLUSTER
    ]


def of_schema(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that mostly fit a JSON schema, so that what lies behind its checks is reached as well."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        return st.one_of(*(of_schema(part, document, depth) for part in schema["anyOf"]), anything)
    kind = schema.get("type")
    if kind == "object" and "properties" in schema and depth < 3:
        required = schema.get("required", [])
        fields = {name: of_schema(part, document, depth + 1) for name, part in schema["properties"].items()}
        one_field = st.one_of(*(strategy.map(lambda v, n=name: {n: v}) for name, strategy in fields.items()))
        return st.one_of(
            one_field,
            st.fixed_dictionaries(
                {name: fields[name] for name in required},
                optional={n: s for n, s in fields.items() if n not in required},
            ),
            anything,
        )
    simple: dict[str, st.SearchStrategy[Any]] = {
        "string": st.one_of(texts, st.sampled_from(["", "a" * 64, "true"])),
        "integer": st.one_of(st.integers(0, 3), numbers),
        "number": st.one_of(st.floats(0, 4), numbers),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    if kind == "array":
        return st.one_of(st.lists(of_schema(schema.get("items", {}), document, depth + 1), max_size=3), anything)
    return st.one_of(simple[kind], simple[kind], anything) if kind in simple else anything


def check(answer: Answer, said: str) -> None:
    assert answer.status < 500, f"{said}: {answer.status} {answer.body[:500]!r}"
    if answer.status >= 400 and answer.body:
        error = answer.document["error"]
        assert error["code"] and len(error["message"]) > 5, said


def test_no_documented_call_fails_on_anything_that_is_sent_to_it(fuzzed: Api) -> None:
    document = fuzzed.get("/api/v1/openapi.json")
    found = operations(document)
    assert len(found) >= 20

    @settings(max_examples=EXAMPLES * len(found), database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(found), st.data())
    def fuzz(operation: tuple[str, str, dict[str, Any]], data: st.DataObject) -> None:
        method, path, details = operation
        query: dict[str, str] = {}
        for parameter in details.get("parameters", []):
            if parameter["in"] == "path":
                path = path.replace(
                    "{" + parameter["name"] + "}", quote(data.draw(texts), safe="", errors="surrogatepass")
                )
            elif parameter["in"] == "query" and parameter["name"] not in STREAMS and data.draw(st.booleans()):
                query[parameter["name"]] = str(data.draw(of_schema(parameter.get("schema", {}), document)))
        target = path + ("?" + urlencode(query, errors="surrogatepass") if query else "")
        body = data.draw(body_for(details, document))
        check(fuzzed.call(method.upper(), target, body), f"{method} {target[:300]} {(body or b'')[:300]!r}")

    fuzz()
    assert fuzzed.get("/healthz")["ok"]
    assert "Traceback" not in fuzzed.cluster.head_log(10**7)


def body_for(details: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[bytes | None]:
    content = details.get("requestBody", {}).get("content", {}).get("application/json")
    raw = st.one_of(st.none(), st.binary(max_size=100), st.just(b"[" * 50_000), st.just(b'{"a":' * 20_000))
    if content is None:
        return raw
    values = of_schema(content["schema"], document)
    near = st.builds(lambda value: {**JOB, **value} if isinstance(value, dict) else value, values)
    batches = st.lists(near, max_size=3).map(lambda jobs: {"jobs": jobs})
    encoded = st.one_of(values, near, batches).map(lambda value: json.dumps(value).encode())
    return st.one_of(encoded, encoded, encoded, raw)


@pytest.mark.parametrize(
    "path", ["/api/v2/jobs", "/api/v1/nothing", "/nothing", "/api/v1/jobs/x/y/z", "/static/none.js"]
)
def test_what_does_not_exist_is_a_sentence_as_well(fuzzed: Api, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = fuzzed.call(method, path)
        assert answer.status in (404, 405)
        check(answer, path)


def test_a_header_of_any_size_and_a_body_that_never_comes_are_survived(fuzzed: Api) -> None:
    for headers in ({"X-Long": "x" * 200_000}, {"Content-Length": "-1"}, {"Content-Length": "1" + "0" * 30}):
        try:
            answer = fuzzed.call("POST", "/api/v1/jobs", b"{}", headers, timeout=5)
        except OSError:
            continue
        assert 400 <= answer.status < 500
    assert fuzzed.get("/healthz")["ok"]
