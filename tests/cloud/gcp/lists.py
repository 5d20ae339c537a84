"""Lists as Compute Engine gives them: filtered, in pages, over one place or over all, and honest about what is missing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from tests.cloud.gcp.filter import compile_filter
from tests.cloud.gcp.services import Call
from tests.cloud.gcp.store import BASE, Resource, Store
from tests.cloud.gcp.world import Refusal, invalid

Shown = Callable[[Resource], bool]


def list_of(call: Call, kind: str, key: str, items: Iterable[Resource]) -> dict[str, Any]:
    """`key`: of the collection."""
    page, following = _page(call, sorted(items, key=lambda item: str(item["name"])), lambda item: str(item["name"]))
    answer: dict[str, Any] = {"kind": f"compute#{kind}List", "id": key, "selfLink": BASE + key}
    if page:
        answer["items"] = page
    if following:
        answer["nextPageToken"] = following
    return answer


def aggregated(
    call: Call, kind: str, collection: str, scopes: Iterable[tuple[str, list[Resource]]], places: list[str]
) -> dict[str, Any]:
    """`places`: all that there are, such as `zones/us-central1-a`.
    One that does not answer is `unreachable`: what is listed is not all."""
    project, world = call.path["project"], call.world
    lost = [place for place in places if place.partition("/")[2] in world.unreachable]
    if lost and call.query.get("returnPartialSuccess") is False:
        raise Refusal(
            503, "backendError", f"The service is currently unavailable in {', '.join(lost)}.", status="UNAVAILABLE"
        )
    rows = [
        (place, item)
        for place, items in sorted(scopes)
        if place not in lost
        for item in sorted(items, key=lambda item: str(item["name"]))
    ]
    page, following = _page(call, rows, lambda row: f"{row[0]}/{row[1]['name']}", lambda row: row[1])
    found: dict[str, Any] = {}
    for place, item in page:
        found.setdefault(place, {collection: []})[collection].append(item)
    answer: dict[str, Any] = {
        "kind": f"compute#{kind}AggregatedList", "id": f"projects/{project}/aggregated/{collection}",
        "items": found, "selfLink": f"{BASE}projects/{project}/aggregated/{collection}",
    }  # fmt: skip
    for place in places:
        if place not in found:
            found[place] = {"warning": _nothing_at(place)}
    if following:
        answer["nextPageToken"] = following
    if lost:
        answer["unreachables"] = [f"projects/{project}/{place}" for place in lost]
        for place in lost:
            found[place] = {"warning": _unreachable(place)}
    return answer


def _page(
    call: Call, rows: list[Any], cursor: Callable[[Any], str], item: Callable[[Any], Resource] = lambda row: row
) -> tuple[list[Any], str]:
    """(one page, token of the next): a page begins behind the name with which the last one ended."""
    query = call.query
    if query.get("filter"):
        test = compile_filter(query["filter"])
        rows = [row for row in rows if test(item(row))]
    order = query.get("orderBy", "name")
    if order == "creationTimestamp desc":
        rows = rows[::-1]
    elif order != "name":
        raise invalid("orderBy", order, "Sorting by this field is not supported.")
    if token := query.get("pageToken"):
        try:
            after = base64.urlsafe_b64decode(token).decode()
        except ValueError:
            raise invalid("pageToken", token, "Invalid page token.") from None
        rows = [row for row in rows if cursor(row) > after]
    most = query.get("maxResults") or call.world.page_size
    if most > 500:
        raise invalid("maxResults", most, "Values must be within [0, 500]")
    size = min(most, call.world.page_size)
    page = rows[:size]
    following = base64.urlsafe_b64encode(cursor(page[-1]).encode()).decode() if len(rows) > size else ""
    return page, following


def _nothing_at(place: str) -> dict[str, Any]:
    return {
        "code": "NO_RESULTS_ON_PAGE", "message": f"There are no results for scope '{place}' on this page.",
        "data": [{"key": "scope", "value": place}],
    }  # fmt: skip


def _unreachable(place: str) -> dict[str, Any]:
    return {
        "code": "UNREACHABLE", "message": f"The scope '{place}' is not reachable.",
        "data": [{"key": "scope", "value": place}],
    }  # fmt: skip


def scopes_in(store: Store, project: str, collection: str, shown: Shown) -> Iterable[tuple[str, list[Resource]]]:
    for place, items in store.scopes(project, collection):
        yield place, [item for item in items if shown(item)]
