from __future__ import annotations

from typing import Any

from clusterctl.client.up.readiness import FAILED_TICKS, GIVE_UP_AFTER, Readiness

TAKING = ("running", "waiting", "failed")


def node(name: str, state: str, reason: str = "", since: float = 0.0) -> dict[str, Any]:
    return {"id": name, "pool": name.rsplit("-", 1)[0], "state": state, "reason": reason, "since": since}


Seen = tuple[dict[str, Any], list[dict[str, Any]]]


def status(*nodes: dict[str, Any], low: int = 1, engine: str = "none", message: str = "") -> Seen:
    """The head's status, which counts nodes, and the nodes that are looked at beside it."""
    taking = [n for n in nodes if n["state"] == "ready" and (n.get("preparing") or {}).get("state") in TAKING]
    works = [n["pool"] for n in nodes if n["state"] == "ready" and n.get("connected", True) and n not in taking]
    pool = {"name": "cpu", "min": low, "max": 9, "in_service": works.count("cpu"), "preparing": len(taking)}
    document = {
        "head": {"in_service": works.count("head")},
        "nodes": [],
        "pools": [pool],
        "engine": {"name": "ray", "state": engine, "message": message},
    }
    return document, list(nodes)


def test_up_is_done_when_head_node_min_of_every_pool_and_engine_are_ready() -> None:
    readiness = Readiness()
    assert not readiness.feed(*status())
    assert not readiness.feed(*status(node("head-1", "ready")))
    assert not readiness.feed(*status(node("head-1", "joining"), node("cpu-1", "ready")))
    assert not readiness.feed(*status(node("head-1", "ready"), node("cpu-1", "ready"), engine="starting"))
    assert readiness.feed(*status(node("head-1", "ready"), node("cpu-1", "ready"), engine="ready"))


def test_what_is_missing_is_said_node_by_node() -> None:
    readiness = Readiness()
    readiness.feed(*status(node("head-1", "booting", "installing"), node("cpu-1", "joining"), low=2, engine="starting"))
    assert readiness.waiting == [
        "head node [head-1 booting (installing)]",
        "pool cpu: 0 of 2 ready [cpu-1 joining]",
        "engine ray starting",
    ]


def test_a_pool_whose_launches_keep_failing_is_given_up_with_each_reason() -> None:
    readiness = Readiness()
    for number in range(1, GIVE_UP_AFTER):
        readiness.feed(*status(node("head-1", "ready"), node(f"cpu-{number}", "failed", "no capacity")))
        assert not readiness.hopeless
    readiness.feed(*status(node("head-1", "ready"), node("cpu-9", "failed", "quota")))
    assert readiness.hopeless == ["cpu-1: no capacity", "cpu-2: no capacity", "cpu-9: quota"]


def test_failures_do_not_matter_once_the_pool_has_its_min() -> None:
    readiness = Readiness()
    failed = [node(f"cpu-{number}", "failed", "x") for number in range(2, 9)]
    assert readiness.feed(*status(node("head-1", "ready"), node("cpu-1", "ready"), *failed))
    assert not readiness.hopeless


def test_a_failed_engine_is_given_up_with_its_words() -> None:
    readiness = Readiness()
    readiness.feed(*status(node("head-1", "ready"), node("cpu-1", "ready"), engine="failed", message="port taken"))
    assert readiness.hopeless == ["engine ray failed (port taken)"]


def test_after_a_restart_of_the_head_a_node_counts_once_it_has_dialled_in_again() -> None:
    readiness = Readiness()
    away = node("cpu-1", "ready") | {"connected": False, "reason": "its agent is not connected"}
    assert not readiness.feed(*status(node("head-1", "ready"), away))
    assert readiness.waiting == ["pool cpu: 0 of 1 ready [cpu-1 ready (its agent is not connected)]"]
    assert readiness.feed(*status(node("head-1", "ready"), away | {"connected": True}))


def test_a_ready_node_that_takes_changed_files_or_setup_is_not_done_yet() -> None:
    readiness = Readiness()
    taking = {**node("cpu-1", "ready"), "preparing": {"state": "running", "step": "setup 1 of 1: x"}}
    assert not readiness.feed(*status(node("head-1", "ready"), taking))
    assert readiness.feed(*status(node("head-1", "ready"), {**taking, "preparing": {"state": "done"}}))


def test_a_changed_setup_that_failed_on_a_running_node_ends_the_wait() -> None:
    readiness = Readiness()
    stuck = {
        **node("cpu-1", "ready"),
        "preparing": {"state": "failed", "error": "setup command 1 ended with exit code 1"},
    }
    assert not readiness.feed(*status(node("head-1", "ready"), stuck))
    assert readiness.hopeless == ["cpu-1: setup command 1 ended with exit code 1"]
    assert list(readiness.setup_failed) == ["cpu-1"]


def test_two_nodes_whose_setup_failed_are_enough_to_give_up() -> None:
    readiness = Readiness()
    broken = {**node("cpu-1", "failed", "no wheel"), "code": "setup_failed", "generation": 1}
    readiness.feed(*status(node("head-1", "ready"), broken))
    assert not readiness.hopeless
    readiness.feed(*status(node("head-1", "ready"), {**broken, "state": "terminating"}))
    assert not readiness.hopeless, "it is the same node"
    readiness.feed(*status(node("head-1", "ready"), {**broken, "id": "cpu-2"}))
    assert readiness.hopeless == ["cpu-1: no wheel", "cpu-2: no wheel"]


def test_a_pool_whose_launches_are_refused_says_why_and_gives_up_where_trying_again_is_useless() -> None:
    readiness, (short, nodes) = Readiness(), status(node("head-1", "ready"))
    short["pools"][0]["problem"] = {"code": "no_capacity", "text": "sold out in us-east-1a"}
    assert not readiness.feed(short, nodes)
    assert "pool cpu: sold out in us-east-1a" in readiness.waiting
    assert not readiness.hopeless
    short["pools"][0]["problem"] = {"code": "bad_request", "text": "no such image"}
    readiness.feed(short, nodes)
    assert readiness.hopeless == ["pool cpu: no such image"]
    short["pools"][0]["in_service"] = 1
    assert readiness.feed(short, [*nodes, node("cpu-1", "ready")])


def test_a_failure_that_only_a_status_shows_counts_as_well() -> None:
    readiness = Readiness()
    for number in range(1, GIVE_UP_AFTER + 1):
        document, nodes = status(node("head-1", "ready"))
        document["nodes"] = [node(f"cpu-{number}", "failed", "no such image")]
        readiness.feed(document, nodes)
    assert readiness.hopeless == [f"cpu-{number}: no such image" for number in range(1, GIVE_UP_AFTER + 1)]


def test_nodes_that_take_work_need_not_be_looked_at() -> None:
    readiness = Readiness()
    many, _ = status(node("head-1", "ready"), *(node(f"cpu-{n}", "ready") for n in range(1, 2500)), low=2500)
    late = node("cpu-2500", "booting", "the provider says that it runs")
    assert not readiness.feed(many, [late])
    assert readiness.waiting == ["pool cpu: 2499 of 2500 ready [cpu-2500 booting (the provider says that it runs)]"]
    many["pools"][0]["in_service"] = 2500
    assert readiness.feed(many, [])


def test_an_autoscaler_that_fails_is_what_up_waits_for_and_ends_with() -> None:
    readiness, (document, nodes) = Readiness(), status(node("head-1", "ready"), node("cpu-1", "ready"))
    for times in (1, 2, FAILED_TICKS):
        document["autoscaler"] = {"failing": "the autoscaler fails", "failed_ticks": times}
        assert not readiness.feed(document, nodes)
        assert readiness.waiting == ["the autoscaler fails"]
        assert readiness.hopeless == (["the autoscaler fails"] if times == FAILED_TICKS else [])
    document["autoscaler"] = {"failing": "", "failed_ticks": 0}
    assert readiness.feed(document, nodes)
