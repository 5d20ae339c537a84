from __future__ import annotations

import base64

from clusterctl.client.head.api import Api
from clusterctl.client.submit.logs import End, LogReader, Piece
from tests.support.stub_head import Asked, Stream, StubHead

PATH = "/api/v1/jobs/a/logs"


def line(offset: int, data: str, *, rank: int = 0, attempt: int = 1) -> dict[str, object]:
    return {"rank": rank, "attempt": attempt, "offset": offset, "next": offset + len(data.encode()), "data": data}


def end(state: str = "succeeded", code: int | None = 0) -> dict[str, object]:
    return {"end": True, "state": state, "exit_code": code}


def read(stub: StubHead, **options: object) -> tuple[str, End]:
    with Api.of(stub.cluster) as api:
        *pieces, last = LogReader(api, "a", **options).pieces(follow_on=True)  # type: ignore[arg-type]
    assert isinstance(last, End)
    return b"".join(piece.data for piece in pieces if isinstance(piece, Piece)).decode(), last


def test_a_log_goes_on_where_it_broke_off(stub: StubHead) -> None:
    answers = iter([Stream([line(0, "größe\n")], cut=True), Stream([line(8, "two\n"), end()])])
    stub.on("GET", PATH, lambda _: next(answers))
    assert read(stub) == ("größe\ntwo\n", End("succeeded", 0))
    assert stub.asked[1].query == {"follow": "1", "attempt": "1", "offset": "8"}


def test_the_logs_of_a_gang_are_not_repeated_after_a_reconnect(stub: StubHead) -> None:
    first = [line(0, "a0\n"), line(0, "b0\n", rank=1), line(3, "a1\n")]
    again = [line(3, "a1\na2\n"), line(3, "b1\n", rank=1), end()]
    answers = iter([Stream(first, cut=True), Stream(again)])
    stub.on("GET", PATH, lambda _: next(answers))
    assert read(stub, ranks=2)[0] == "a0\nb0\na1\na2\nb1\n"
    assert stub.asked[1].query["offset"] == "3"


def test_a_rank_that_had_not_written_yet_is_read_from_its_beginning(stub: StubHead) -> None:
    answers = iter([Stream([line(0, "a0\n")], cut=True), Stream([line(0, "a0\n"), line(0, "b0\n", rank=1), end()])])
    stub.on("GET", PATH, lambda _: next(answers))
    assert read(stub, ranks=2)[0] == "a0\nb0\n"
    assert "offset" not in stub.asked[1].query or stub.asked[1].query["offset"] == "0"


def test_an_attempt_is_read_to_its_end_before_the_next_one(stub: StubHead) -> None:
    def answer(asked: Asked) -> Stream:
        if asked.query.get("attempt") == "1":
            return Stream([line(4, "rest of 1\n"), end("running", None)])
        if len(stub.asked) == 1:
            return Stream([line(0, "one\n")], cut=True)
        return Stream([line(0, "two\n", attempt=2), end()])

    stub.on("GET", PATH, answer)
    assert read(stub)[0] == "one\nrest of 1\ntwo\n"


def test_the_last_lines_are_asked_for_once_only(stub: StubHead) -> None:
    answers = iter([Stream([line(100, "x\n")], cut=True), Stream([line(102, "y\n"), end()])])
    stub.on("GET", PATH, lambda _: next(answers))
    assert read(stub, tail=1)[0] == "x\ny\n"
    assert [asked.query.get("tail") for asked in stub.asked] == ["1", None]


def test_a_reader_that_was_left_goes_on_where_it_was(stub: StubHead) -> None:
    answers = iter([Stream([line(0, "one\n"), line(4, "two\n")]), Stream([line(4, "two\n"), end()])])
    stub.on("GET", PATH, lambda _: next(answers))
    with Api.of(stub.cluster) as api:
        reader = LogReader(api, "a")
        pieces = reader.pieces(follow_on=True)
        assert isinstance(first := next(pieces), Piece) and first.data == b"one\n"
        pieces.close()
        assert [piece.data for piece in reader.pieces(follow_on=True) if isinstance(piece, Piece)] == [b"two\n"]


def test_bytes_that_are_no_text_arrive_as_they_are_also_when_they_come_twice(stub: StubHead) -> None:
    data = b"caf\xe9\n\xff\x00"
    piece = {**line(0, ""), "next": len(data), "data": data.decode(errors="replace")}
    piece["base64"] = base64.b64encode(data).decode()
    answers = iter([Stream([line(0, "caf")], cut=True), Stream([piece, end()])])
    stub.on("GET", PATH, lambda _: next(answers))
    with Api.of(stub.cluster) as api:
        pieces = [piece for piece in LogReader(api, "a").pieces(follow_on=True) if isinstance(piece, Piece)]
    assert [(piece.offset, piece.data) for piece in pieces] == [(0, b"caf"), (3, data[3:])]
