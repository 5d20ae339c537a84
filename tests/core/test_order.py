"""One order of the queue: the head's lines, the planner and the simulator agree on who comes first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from clusterctl_runtime.head.jobs.asked import GroupKey
from clusterctl_runtime.head.jobs.lines import Lines, in_order
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.core.model import Shape
from clusterctl.core.order import goes_first, levels, turn
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.jobs import TraceJob
from clusterctl.core.simulate.waiting import Ticket, WaitingJobs

SHAPES = [Shape(Resources.of({"CPU": float(cpus)})) for cpus in (1, 2, 4)]
JOBS = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.integers(-2, 2), st.sampled_from(["", "ada", "grace"])), max_size=12
)


def test_the_more_urgent_goes_first_and_of_equals_who_came_first() -> None:
    came = [turn(0, 1.0, 1), turn(5, 9.0, 2), turn(-1, 0.0, 3), turn(5, 2.0, 5), turn(5, 2.0, 4)]
    assert [number for _, _, number in sorted(came)] == [4, 5, 2, 1, 3]
    assert goes_first(1, 0) and not goes_first(0, 0) and not goes_first(-1, 0)


@given(JOBS)
def test_head_and_simulator_and_planner_ask_jobs_in_one_order(jobs: list[tuple[Shape, int, str]]) -> None:
    lines, waiting = Lines(), WaitingJobs()
    for number, (shape, priority, user) in enumerate(jobs):
        group = GroupKey(shape, 1, priority, user)
        lines.put(cast(Any, SimpleNamespace(seq=number, group=group, array_id="", id=str(number))))
        job = TraceJob(str(number), float(number), 1.0, shape, 1, priority, user)
        waiting.add(Ticket(job, number, float(number)))
    at_the_head = [job.seq for job in in_order(lines.groups, dict.fromkeys(lines.groups, len(jobs)))]
    simulated = [ticket.number for ticket in waiting.tickets()]
    planned = [number for _, level in levels(range(len(jobs)), lambda n: jobs[n][1]) for number in level]
    assert at_the_head == simulated == planned


@given(JOBS.filter(bool), st.data())
def test_who_stands_before_a_job_is_who_comes_before_it_in_the_order(
    jobs: list[tuple[Shape, int, str]], data: st.DataObject
) -> None:
    lines = Lines()
    entered: list[Any] = []
    for number, (shape, priority, user) in enumerate(jobs):
        entered.append(SimpleNamespace(seq=number, group=GroupKey(shape, 1, priority, user), array_id=""))
        lines.put(entered[-1])
    order = [job.seq for job in in_order(lines.groups, dict.fromkeys(lines.groups, len(jobs)))]
    one = data.draw(st.sampled_from(entered))
    assert lines.before(one) == order.index(one.seq)
    alike = [seq for seq in order if entered[seq].group.kind == one.group.kind]
    first = lines.first_alike(*one.group.kind)
    assert first is not None and first.seq == alike[0]
