"""The log of one task under every order of events that Hypothesis finds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from clusterctl_runtime.agent.logs.spool import Ring
from clusterctl_runtime.agent.logs.unsent import LogBudget, Output
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("print"), st.integers(1, 400)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("ack"), st.integers(0, 3)),
        st.tuples(st.just("part"), st.just(0)),
        st.tuples(st.just("join"), st.just(0)),
    ),
    max_size=60,
)


class Receiver:
    """What a head does with log frames."""

    def __init__(self) -> None:
        self.data, self.received, self.gaps = bytearray(), 0, 0

    def take(self, offset: int, data: bytes, dropped: int) -> None:
        if offset > self.received:
            assert dropped == offset - self.received
            self.gaps += dropped
            self.received = offset
        self.data += data[self.received - offset :]
        self.received = max(self.received, offset + len(data))


def pattern(start: int, size: int) -> bytes:
    return bytes((n * 7 + n // 251) % 256 for n in range(start, start + size))


@settings(max_examples=300)
@given(steps=STEPS, cap=st.integers(0, 3000))
def test_in_any_order_of_events_the_head_gets_the_first_half_and_the_end_once(steps, cap) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        budget = LogBudget(Path(scratch), window=300, memory=1000, spool=800, disk=10_000)
        budget.connected = True
        output, head = Output(cap, budget), Receiver()
        for kind, n in steps:
            if kind == "print" and output.wants():
                output.add(pattern(output.total, n))
            elif kind == "send":
                for _ in range(n if budget.connected and output.unsent else 0):
                    if output.unsent:
                        head.take(*output.take())
            elif kind == "ack" and budget.connected:
                output.acknowledge(max(output.base, head.received - n * 50))
            elif kind in ("part", "join"):
                budget.connected = kind == "join"
                output.rewind()
            assert len(output._memory) <= 300 + 400 + 800, "memory is bounded"
        finish(output, head, budget)
        check(output, head, cap)
        assert budget.memory == 0 and budget.disk == 0
        assert not list(Path(scratch).iterdir())


def finish(output: Output, head: Receiver, budget: LogBudget) -> None:
    budget.connected = True
    output.rewind()
    output.seal()
    for _ in range(100):
        while output.unsent:
            head.take(*output.take())
        output.acknowledge(head.received)
        if output.done:
            return
    raise AssertionError("the log does not end")


def check(output: Output, head: Receiver, cap: int) -> None:
    whole = pattern(0, output.total)
    assert head.received == output.total
    if len(whole) <= cap:
        assert head.data == whole and not head.gaps
        return
    first = cap // 2
    assert head.data[:first] == whole[:first]
    kept = len(head.data) - first
    assert head.data[first:] == whole[len(whole) - kept :] and head.gaps == len(whole) - len(head.data)
    assert kept == cap - first or (kept == 1 and cap == 0)


@given(size=st.integers(1, 50), pieces=st.lists(st.integers(0, 120), max_size=20))
def test_a_ring_keeps_the_last_bytes(size, pieces) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        ring, total = Ring(Path(scratch) / "ring", size), 0
        for piece in pieces:
            ring.append(pattern(total, piece))
            total += piece
        assert ring.start == max(0, total - size)
        data, at = b"", ring.start
        while at < total:
            data += ring.read(at, 13)
            at = ring.start + len(data)
        assert data == pattern(ring.start, total - ring.start)
        ring.close()
