"""What `/metrics` is made of: counts that are kept, labels with bounds, and a text that Prometheus takes whatever is in it."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import CreateRequest, PoolRequest
from clusterctl_runtime.head.jobs.charges import charges_document
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.metrics.look import MOST_USERS, Machine, Sheet, Users
from clusterctl_runtime.head.metrics.metered import Metered
from clusterctl_runtime.head.metrics.render import no_less, set_machine, written
from clusterctl_runtime.head.metrics.table import ENTRIES, OTHERS, in_page
from clusterctl_runtime.head.nodes.measured import LONGEST, MOST, measured
from clusterctl_runtime.head.pulse import Histogram
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from clusterctl.core.errors import NoCapacity, Throttled
from clusterctl.core.model import Node, NodeState, NodeView, Observed, Offer
from clusterctl.core.resources import Resources
from clusterctl.provision.costs import Meter
from tests.support.prometheus import promtool

OWN = [f"clusterctl_{name}_seconds" for name in ("loop_late", "loop_busy", "plan")]
PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
HOSTILE = [
    'say "hi"',
    "back\\slash",
    "a\nb",
    "\\n",
    "\\",
    '"',
    "",
    " ",
    "}",
    "{a=1}",
    "# HELP x",
    "é\u2028\x00\r\t",
    "\ud800half",
    "🦀",
]


def exposed(sheet: Sheet) -> str:
    return written(sheet, dict.fromkeys(OWN, Histogram()), Counts()).bytes().decode()


def lint(text: str) -> str:
    done = subprocess.run([promtool(), "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
    return done.stdout + done.stderr


def machine(figures: Any, **resources: float) -> Machine:
    offer = Offer("gpu", "big", "spot", "za", 1.0, Resources.of({"CPU": 4, **resources}))
    node = Node("gpu-1", 1, "t", offer, NodeState.READY, 0.0, 0.0)
    return Machine(NodeView(node, offer.resources, offer.resources), "10.0.0.1", 5.0, measured(figures))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=12), min_size=2, max_size=2))
def test_a_label_is_read_as_it_was_whatever_is_in_it(texts: list[str]) -> None:
    sheet = Sheet()
    sheet.set("job_info", 1, "j-1", *texts)
    (family,) = [one for one in text_string_to_metric_families(exposed(sheet)) if one.name == "clusterctl_job_info"]
    whole = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    assert family.samples[0].labels == {"job_id": "j-1", "name": whole[0], "user": whole[1]}


def test_prometheus_own_checker_finds_no_fault_with_hostile_names_and_figures() -> None:
    sheet = Sheet()
    for number, name in enumerate(HOSTILE):
        sheet.set("job_info", 1, f"j-{number}", name, name)
        sheet.set("user_spend_dollars_total", 1e-9 * number, name)
    gpu = {"uuid": '"}\n', "name": "\\", "busy": 0.5, "celsius": 40, "xids": {"79": 1, "x": 2}}
    told = {
        "node": {"cpus": 2, "sent": 1e17},
        "gpus": {"0": gpu, "one": gpu},
        "disks": {"root": [5, 2], "/x": [1, 1]},
        "jobs": {},
    }
    set_machine(sheet, machine(told), "fake")
    text = exposed(sheet)
    assert lint(text) == ""
    assert 'clusterctl_gpu_xid_errors_total{node="gpu-1",pool="gpu",gpu="0",xid="79"} 1.0' in text
    assert 'gpu="one"' not in text and 'place="/x"' not in text
    assert lint(text.replace("clusterctl_gpu_info", "clusterctl_gpuInfo")) != "", "it finds faults where there are any"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*"0179", "node", "cpus", "gpus", "jobs", "disks",
        "root", "xids", "uuid", "busy", "j-1", "memory"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_whatever_an_agent_tells_ends_as_figures_or_as_nothing(told: Any) -> None:
    sheet = Sheet()
    set_machine(sheet, machine(told), "fake")
    assert list(text_string_to_metric_families(exposed(sheet)))


@pytest.mark.parametrize("gpus, told", [(0, False), (2, True)])
def test_a_driver_that_finds_nothing_is_trouble_only_where_there_are_to_be_gpus(gpus: int, told: bool) -> None:
    sheet = Sheet()
    set_machine(sheet, machine({"node": {"gpu_trouble": 1}}, GPU=gpus), "fake")
    assert bool(sheet.values["clusterctl_node_gpu_trouble"]) is told


def test_what_is_kept_of_a_node_has_its_bounds() -> None:
    gpu = {"name": "n" * 10_000, "uuid": "u" * 10_000, "busy": 1, "xids": {str(n): 1 for n in range(1000)}, "more": 1}
    job = {"memory": 1, "gpus": {str(n): 1 for n in range(1000)}}
    kept = measured({"gpus": {str(n): gpu for n in range(1000)}, "jobs": {f"j-{n}" * 100: job for n in range(1000)}})
    assert len(kept["gpus"]) == len(kept["jobs"]) == MOST
    assert len(kept["gpus"]["0"]["name"]) == LONGEST == max(map(len, kept["jobs"]))
    assert len(str(kept)) < 200_000
    assert measured({"node": {"cpus": -1, "sent": 10**400, "memory": True, "read": float("nan")}})["node"] == {}


def test_a_sum_of_money_never_falls() -> None:
    values = {("ann",): 4.0, ("bob",): 1.0}
    assert no_less(values, {("ann",): 5.0, ("eve",): 2.0}) == values == {("ann",): 5.0, ("bob",): 1.0, ("eve",): 2.0}


def test_only_so_many_users_have_a_label_of_their_own_and_keep_it() -> None:
    users = Users()
    first = [users.label(f"u{n}") for n in range(MOST_USERS)]
    assert users.label("late") == users.label("later") == OTHERS
    assert [users.label(f"u{n}") for n in range(MOST_USERS)] == first == [f"u{n}" for n in range(MOST_USERS)]


def test_jobs_that_are_held_are_counted_by_why_as_each_would_say_itself(desk: Any) -> None:
    requests = [
        {"submission_id": "first"},
        {"submission_id": "wide", "array": [0, 1, 2, 3], "array_limit": 2},
        {"submission_id": "after", "after": ["first"], "array": [0, 1, 2], "array_limit": 1},
        {"submission_id": "last", "after": ["wide", "after:any"]},
    ]
    asyncio.run(desk.queue.submit([JobRequest(argv=["true"], **one) for one in requests]))
    seen: set[str] = set()
    while pending := [job for job in desk.book.jobs.values() if not job.final]:
        each = Counter(wait["code"] for job in pending if (wait := desk.book.gate.wait_of(job)))
        assert +desk.book.gate.reasons == each
        seen |= set(each)
        startable = [job for line in desk.book.groups.values() for job in line]
        job = random.Random(len(pending)).choice(startable)
        desk.work.assign(job, ["cpu-1"])
        desk.book.move(job, "succeeded")
    assert seen == {"dependency", "array_limit"} and not +desk.book.gate.reasons


def test_what_users_have_paid_is_what_looking_at_all_their_jobs_would_say(desk: Any) -> None:
    for books in desk.ledger:
        books.price = 2.0
    chance = random.Random(7)
    for number in range(30):
        job = desk.job(user=chance.choice(["ann", "bob", ""]), cpus=chance.choice([1, 2]))
        attempt = desk.work.assign(job, ["cpu-1"])
        attempt.started -= 3600.0 * number
        if chance.random() < 0.8:
            attempt.exits[0] = chance.choice([0, 1])
            desk.work._release(attempt, 0)
            desk.work._finish(job, attempt)
    ended = [job for job in desk.book.jobs.values() if job.final]
    rows = charges_document(ended, "user", 0.0, 0.0)["rows"]
    want = pytest.approx({row["user"]: row["dollars"] for row in rows}, abs=1e-5)
    assert desk.work.charges.by_user == want and len(rows) == 3
    desk.reopen()
    assert desk.work.charges.by_user == want, "as a new head finds it on disk"
    outcomes = {sample.labels["outcome"] for one in Counts().attempts.collect() for sample in one.samples}
    assert outcomes == set()


def test_waits_and_ends_of_attempts_are_counted_where_they_happen(desk: Any) -> None:
    job = desk.job()
    job.queued_since -= 20.0
    attempt = desk.work.assign(job, ["cpu-1"])
    attempt.stopping = "lost"
    desk.work._finish(job, attempt)
    counts = desk.work._counts
    buckets = {s.labels["le"]: s.value for one in counts.job_wait.collect() for s in one.samples if "le" in s.labels}
    assert (buckets["15.0"], buckets["60.0"], buckets["+Inf"]) == (0, 1, 1)
    assert counts.attempts.labels("lost")._value.get() == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(0, 10), st.integers(0, 300_000), st.integers(0, 200_000)), max_size=8
    )
)
def test_dollars_by_pool_are_the_sum_of_its_days(stays: list[tuple[str, float, int, int]]) -> None:
    meter, now = Meter(), 400_000.0
    for number, (pool, price, at, length) in enumerate(sorted(stays, key=lambda stay: stay[2])):
        meter.begin(f"{pool}-{number}", pool, price, at)
        meter.by_pool(float(at))
        if number % 2:
            meter.end(f"{pool}-{number}", min(now, at + length))
    sums: dict[str, float] = {}
    for row in meter.rows(now):
        sums[row.pool] = sums.get(row.pool, 0.0) + row.dollars
    assert meter.by_pool(now) == pytest.approx(sums)
    assert sum(meter.by_pool(now).values()) == pytest.approx(meter.spend(now).total)


class Failing:
    """As much of a provider as is asked here; it can stop nothing."""

    name = "fake"

    def create(self, requests: Any) -> list[Any]:
        return [NoCapacity("none"), NoCapacity("none")]

    def list(self) -> list[Observed]:
        return [Observed("za", (), True, 0.0), Observed("zb", (), False, 0.0, "away", "auth_failed")]

    def offers(self, pool: PoolRequest) -> list[Offer]:
        raise Throttled("slower")


def test_calls_of_a_provider_are_timed_and_their_errors_counted_by_code() -> None:
    counts, nothing = Counts(), list[CreateRequest]()
    provider = Metered.around(Failing(), counts)  # type: ignore[arg-type]
    provider.create(nothing)
    provider.list()
    with pytest.raises(Throttled):
        provider.offers(PoolRequest("cpu", {}))
    errors = {
        (sample.labels["call"], sample.labels["reason"]): sample.value
        for one in counts.provider_errors.collect()
        for sample in one.samples
    }
    assert errors == {("create", "no_capacity"): 2, ("list", "auth_failed"): 1, ("offers", "throttled"): 1}
    calls = {
        s.labels["call"]: s.value for one in counts.provider_call.collect() for s in one.samples if "_count" in s.name
    }
    assert calls == {"create": 1, "list": 1, "offers": 1}
    assert provider.name == "fake" and provider.stop is None


def test_the_page_has_the_table_of_the_code() -> None:
    text = PAGE.read_text()
    assert in_page(text) == text, "make docs"
    assert all(f"`{name}`" in text for name in ENTRIES)
