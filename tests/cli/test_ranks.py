"""What several ranks write on one stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clusterctl.cli.render.ranks import HOLD_SECONDS, LONGEST, Ranks

A, B = (1, 0), (1, 1)


def test_ranks_that_write_at_once_do_not_cut_each_others_lines() -> None:
    ranks = Ranks()
    said = [ranks.feed(A, b"one and ", 0), ranks.feed(B, b"two\nthr", 0), ranks.feed(A, b"a half\n", 0), ranks.rest()]
    assert b"".join(said) == b"[1] two\n[0] one and a half\n[1] thr\n"


def test_a_progress_bar_is_seen_while_it_moves_whether_its_return_comes_first_or_last() -> None:
    first, last = Ranks(), Ranks()
    assert first.feed(A, b"\r  1%", 0) + first.feed(A, b"\r  2%", 0) == b"[0]   1%\n"
    assert last.feed(A, b"  1%\r", 0) + last.feed(A, b"  2%\r", 0) == b"[0]   1%\n"
    assert first.rest() == last.rest() == b"[0]   2%\n"


def test_a_newline_after_a_return_is_one_end_of_a_line_also_when_they_come_apart() -> None:
    ranks = Ranks()
    assert ranks.feed(A, b"a\r", 0) + ranks.feed(A, b"\n\r\nb\r\n", 0) + ranks.rest() == b"[0] a\n[0] \n[0] b\n"


def test_what_is_begun_and_not_ended_is_shown_after_a_while_and_goes_on_behind_it() -> None:
    ranks = Ranks()
    assert ranks.feed(A, b"loading", 0) == ranks.overdue(HOLD_SECONDS / 2) == b""
    assert ranks.overdue(HOLD_SECONDS) == b"[0] loading"
    assert ranks.feed(A, b" ... done\n", 9) == b" ... done\n"


def test_another_rank_never_writes_into_a_line_that_stands_open() -> None:
    ranks = Ranks()
    ranks.feed(A, b"loading", 0)
    said = ranks.overdue(HOLD_SECONDS) + ranks.feed(B, b"hello\n", 2) + ranks.feed(A, b" done\n", 3)
    assert said == b"[0] loading\n[1] hello\n[0]  done\n"
    assert ranks.rest() == b""


def test_a_line_without_end_is_passed_on_and_not_gathered() -> None:
    ranks = Ranks()
    said = b"".join(ranks.feed(A, b"x" * 50_000, 0) for _ in range(100)) + ranks.rest()
    assert said == b"[0] " + b"x" * 5_000_000 + b"\n"
    assert len(Ranks().feed(A, b"x" * (LONGEST + 1), 0)) > LONGEST


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.binary(max_size=6), st.booleans()), max_size=30))
def test_every_byte_of_every_rank_is_written_once_on_lines_of_its_own(
    pieces: list[tuple[tuple[int, int], bytes, bool]],
) -> None:
    ranks = Ranks()
    wrote: dict[int, bytes] = {0: b"", 1: b""}
    said = b""
    for now, (key, data, late) in enumerate(pieces):
        data = data.replace(b"[", b"(")
        wrote[key[1]] += data
        said += ranks.feed(key, data, now * 10)
        if late:
            said += ranks.overdue(now * 10 + HOLD_SECONDS)
    said += ranks.rest()
    seen: dict[int, bytes] = {0: b"", 1: b""}
    for line in said.split(b"\n")[:-1]:
        prefix, text = line[:4], line[4:]
        assert prefix in (b"[0] ", b"[1] ")
        seen[int(prefix[1:2])] += text
    for rank, data in wrote.items():
        assert seen[rank] == data.replace(b"\r", b"").replace(b"\n", b"")
