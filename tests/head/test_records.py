"""Store, log store, blobs and admission: what is kept, and who gets in."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3

import pytest
from clusterctl_runtime.head.nodes.admission import Admission, Tokens, token_digest
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable

from clusterctl.core.errors import BadRequest, NotFound


async def chunks(*parts):
    for part in parts:
        yield part


def test_what_was_flushed_is_on_disk_before_anyone_is_told(tmp_path):
    async def scenario():
        store = Store(tmp_path / "s.db")
        store.write("INSERT INTO meta VALUES ('a', '1')")
        await store.flush()
        # another connection, as another process would see it
        with sqlite3.connect(tmp_path / "s.db") as other:
            assert other.execute("SELECT value FROM meta").fetchone() == ("1",)
        store.close()

    asyncio.run(scenario())


def test_a_disk_that_refuses_is_said_and_what_was_queued_is_written_once_it_takes_it_again(tmp_path):
    async def scenario():
        store = Store(tmp_path / "s.db")
        store._connection.execute("PRAGMA max_page_count = 40")
        store.write("INSERT INTO meta VALUES ('big', ?)", ("x" * 1_000_000,))
        with pytest.raises(StoreUnavailable, match="free some disk space"):
            await store.flush()
        store._connection.execute("PRAGMA max_page_count = 100000")
        await store.flush()
        assert store.rows("SELECT length(value) FROM meta") == [(1_000_000,)]
        store.close()

    asyncio.run(scenario())


def test_log_bytes_that_come_twice_are_kept_once_and_dropped_ones_leave_a_marker(tmp_path):
    logs = LogStore(tmp_path)
    assert logs.append("j/1/0", 0, b"hello ") == 6
    assert logs.append("j/1/0", 3, b"lo world") == 11
    assert logs.append("j/1/0", 1000, b"end\n") == 1004
    text = logs.read("j/1/0", 0).decode()
    assert text.startswith("hello world\n[clusterctl: 989 bytes of output dropped")
    assert text.endswith("end\n")


def test_a_new_process_goes_on_at_the_right_offset_of_a_log_with_a_gap(tmp_path):
    LogStore(tmp_path).append("j/1/0", 500, b"abc")
    assert LogStore(tmp_path).offset("j/1/0") == 503


def test_a_log_is_whole_only_when_the_last_byte_is_here(tmp_path):
    logs = LogStore(tmp_path)
    logs.append("j/1/0", 0, b"12345")
    logs.expect("j/1/0", 8)
    assert not logs.complete("j/1/0")
    logs.append("j/1/0", 5, b"678")
    assert logs.complete("j/1/0")


def tail(logs, lines, most=1 << 20):
    position, cut = logs.tail_position("j/1/0", lines, most)
    return logs.read("j/1/0", position), cut


@pytest.mark.parametrize(
    "lines, expected", [(0, b""), (1, b"c\n"), (2, b"b\nc\n"), (3, b"a\nb\nc\n"), (9, b"a\nb\nc\n")]
)
def test_the_tail_of_a_log_starts_at_a_line(tmp_path, lines, expected):
    logs = LogStore(tmp_path)
    logs.append("j/1/0", 0, b"a\nb\nc\n")
    assert tail(logs, lines) == (expected, False)


def test_the_tail_of_a_log_ends_with_what_has_no_newline_yet_and_of_no_log_there_is_none(tmp_path):
    logs = LogStore(tmp_path)
    assert tail(logs, 3) == (b"", False)
    logs.append("j/1/0", 0, b"a\n\nb")
    assert tail(logs, 1) == (b"b", False)
    assert tail(logs, 2) == (b"\nb", False)


def test_a_tail_is_never_longer_than_was_asked_for_and_says_when_it_begins_inside_a_line(tmp_path):
    logs = LogStore(tmp_path)
    logs.append("j/1/0", 0, b"first\n" + b"x" * 1000 + b"\nend\n")
    assert tail(logs, 1, most=100) == (b"end\n", False)
    assert tail(logs, 2, most=100) == (b"x" * 95 + b"\nend\n", True)
    assert tail(logs, 2, most=1005) == (b"x" * 1000 + b"\nend\n", False)


def test_the_tail_of_a_log_is_the_same_wherever_its_lines_meet_the_blocks_it_is_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterctl_runtime.head.storage.logs._BLOCK", 4)
    logs = LogStore(tmp_path)
    text = b"\n".join(b"x" * size for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 0, 0, 12, 1)) + b"\n"
    logs.append("j/1/0", 0, text)
    whole = text.splitlines(keepends=True)
    for lines in range(1, len(whole) + 2):
        position, cut = logs.tail_position("j/1/0", lines, 1 << 20)
        assert (text[position:], cut) == (b"".join(whole[-lines:]), False), lines


def test_who_reads_a_log_is_told_what_grew_and_nothing_is_kept_for_who_does_not(tmp_path):
    logs = LogStore(tmp_path)
    with logs.watching("j") as watch, logs.watching("j"):
        logs.append("j/1/0", 0, b"a")
        logs.append("other/1/0", 0, b"a")
        assert watch.event.is_set() and watch.take() == {"j/1/0"}
        assert not watch.event.is_set() and watch.take() == set()
    logs.append("j/1/0", 1, b"b")
    assert not logs._watches


@pytest.mark.parametrize("task", ["../x/1/0", "a/b/1/0", ".hidden/1/0", "a\0b/1/0", "%2e%2e/1/0"])
def test_a_log_is_found_by_id_and_never_by_path(tmp_path, task):
    with pytest.raises((NotFound, ValueError)):
        LogStore(tmp_path / "logs").append(task, 0, b"x")
    assert not list(tmp_path.rglob("*.log"))


def test_a_blob_that_does_not_hash_to_its_name_is_refused_and_leaves_nothing(tmp_path):
    blobs = BlobStore(tmp_path / "blobs")
    digest = hashlib.sha256(b"good").hexdigest()
    with pytest.raises(BadRequest, match="damaged"):
        asyncio.run(blobs.put(digest, chunks(b"go", b"od!")))
    assert not blobs.has(digest)
    assert not list((tmp_path / "blobs").iterdir())
    assert asyncio.run(blobs.put(digest, chunks(b"go", b"od")))
    assert not asyncio.run(blobs.put(digest, chunks(b"good")))


@pytest.mark.parametrize("name", ["../etc/passwd", "A" * 64, "", "0" * 63])
def test_a_blob_has_no_other_name_than_a_digest(tmp_path, name):
    with pytest.raises(BadRequest):
        BlobStore(tmp_path / "blobs").path(name)


class TestAdmission:
    @pytest.fixture
    def store(self, tmp_path):
        store = Store(tmp_path / "s.db")
        yield store
        store.close()

    def test_a_join_token_works_for_one_boot_only_and_its_credential_from_then_on(self, tmp_path, store):
        admission = Admission(tmp_path, store)
        token = admission.join_token("cpu-1", 1)
        first = admission.admit("cpu-1", 1, token, "boot-a")
        assert first.ok and first.credential
        assert admission.admit("cpu-1", 1, token, "boot-a").credential == first.credential  # the answer was lost
        assert admission.admit("cpu-1", 1, token, "boot-b").code == "token_used"
        assert admission.admit("cpu-1", 1, first.credential, "boot-a").ok
        assert admission.admit("cpu-1", 1, token, "boot-a").code == "token_used"

    def test_a_token_is_bound_to_node_and_generation(self, tmp_path, store):
        admission = Admission(tmp_path, store)
        token = admission.join_token("cpu-1", 1)
        for node, generation in (("cpu-2", 1), ("cpu-1", 2)):
            verdict = admission.admit(node, generation, token, "b")
            assert (verdict.ok, verdict.final) == (False, True)

    def test_a_restart_of_the_head_remembers_which_tokens_were_used(self, tmp_path, store):
        admission = Admission(tmp_path, store)
        token = admission.join_token("cpu-1", 1)
        admission.admit("cpu-1", 1, token, "boot-a")
        asyncio.run(store.flush())
        again = Admission(tmp_path, store)
        assert again.admit("cpu-1", 1, token, "boot-b").code == "token_used"


def test_the_admin_token_is_known_by_its_digest_only():
    tokens = Tokens(token_digest("secret"))
    assert tokens.principal("secret") == "admin"
    assert tokens.principal("Secret") is None
    assert "secret" not in repr(vars(tokens))
