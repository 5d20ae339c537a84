"""What the API says of a log: its bytes, whatever they are, from where the reader asks."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

import pytest
from clusterctl_runtime.head.api.logs import LogReader, whole_characters
from clusterctl_runtime.wire import TaskReport


@pytest.fixture
def ran(desk: Any) -> Any:
    """`ran(*logs)`: a job that has ended, with what each rank wrote in pieces."""

    def run(*logs: list[bytes]) -> Any:
        job = desk.job(nodes=len(logs))
        desk.work.assign(job, [f"cpu-{rank + 1}" for rank in range(len(logs))])
        for rank, pieces in enumerate(logs):
            task, at = f"{job.id}/1/{rank}", 0
            for data in pieces:
                at = desk.logs.append(task, at, data)
            desk.work.report(f"cpu-{rank + 1}", TaskReport(task, "exited", exit_code=0, log_size=at))
        return job

    return run


def read(desk: Any, job: Any, tail: tuple[int, int] | None = None, **wanted: Any) -> list[dict[str, Any]]:
    async def all_lines() -> list[dict[str, Any]]:
        reader = LogReader(desk, job, **wanted)
        if tail:
            reader.begin_at_tail(*tail)
        return [line async for line in reader.lines(follow=False)]

    *pieces, end = asyncio.run(all_lines())
    assert end["end"]
    return pieces


def bytes_of(piece: dict[str, Any]) -> bytes:
    data = base64.b64decode(piece["base64"]) if "base64" in piece else piece["data"].encode()
    assert piece["next"] - piece["offset"] == len(data)
    return data


def test_a_log_arrives_byte_for_byte_whatever_the_program_wrote(desk: Any, ran: Any) -> None:
    data = b"caf\xe9\n" + os.urandom(600_000) + b"\xf0\x9f"
    pieces = read(desk, ran([data]))
    assert b"".join(map(bytes_of, pieces)) == data
    assert pieces[0]["data"].startswith("caf\ufffd\n")


def test_text_is_only_text_and_no_piece_ends_inside_a_character(desk: Any, ran: Any) -> None:
    data = ("größe €𝄞" * 60_000).encode()
    pieces = read(desk, ran([data]))
    assert len(pieces) > 1 and "".join(piece["data"] for piece in pieces) == data.decode()
    assert not any("base64" in piece for piece in pieces)


@pytest.mark.parametrize(
    "data, whole",
    [
        (b"", 0), (b"a", 1), ("é".encode(), 2), ("é".encode()[:1], 0), (b"a" + "€".encode()[:2], 1), ("𝄞".encode(), 4),
        (b"a" + "𝄞".encode()[:3], 1), (b"a\xff", 2), (b"a\xc0", 2), (b"\x80\x80\x80\x80", 4),
    ],
)  # fmt: skip
def test_the_beginning_of_a_character_waits_for_its_end_and_what_is_none_does_not(data: bytes, whole: int) -> None:
    assert whole_characters(data) == whole


def test_a_tail_that_begins_inside_a_line_says_so_once(desk: Any, ran: Any) -> None:
    job = ran([b"a\n" + b"x" * 1_000_000])
    first, *others = read(desk, job, tail=(1, 400_000))
    assert first["cut"] and first["offset"] == 600_002 and not any("cut" in piece for piece in others)
    assert b"".join(map(bytes_of, [first, *others])) == b"x" * 400_000
    assert "cut" not in read(desk, job, tail=(2, 1 << 30))[0]


def test_a_reader_of_a_gang_gets_what_each_rank_wrote_and_leaves_nothing_behind(desk: Any, ran: Any) -> None:
    pieces = read(desk, ran([b"a\n", b"b\n"], [b"c\n"]))
    assert [(piece["rank"], piece["data"]) for piece in pieces] == [(0, "a\nb\n"), (1, "c\n")]
    assert not desk.logs._watches


def test_a_reader_who_leaves_in_the_middle_leaves_nothing_behind(desk: Any) -> None:
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.logs.append(f"{job.id}/1/0", 0, b"a\n")

    async def leave() -> None:
        lines = LogReader(desk, job).lines(follow=True)
        assert (await anext(lines))["data"] == "a\n"
        await lines.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert not desk.logs._watches
