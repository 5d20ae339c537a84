"""Working directories from the head: by digest, fetched once, never trusted."""

from __future__ import annotations

import io
import os
import zipfile

from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until


def pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_each_task_runs_in_its_own_copy_which_goes_afterwards(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"data/a.txt": b"hello", "job.py": b"print(1)"}))
    script = "cat data/a.txt; echo changed > data/a.txt; mkdir new; touch new/file"
    ranks = [f"j-1/1/{rank}" for rank in range(4)]
    head.run(*[TaskSpec(rank, ["/bin/sh", "-c", script], package=digest) for rank in ranks])
    for rank in ranks:
        assert head.until_exited(rank).exit_code == 0
        assert bytes(head.log(rank).data) == b"hello"
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_package_is_fetched_once_for_all_who_wait_for_it_and_all_who_come_later(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(3_000_000)}))
    head.run(*[TaskSpec(f"j-1/1/{rank}", ["/usr/bin/stat", "-c", "%s", "a"], package=digest) for rank in range(8)])
    for rank in range(8):
        head.until_exited(f"j-1/1/{rank}")
        assert bytes(head.log(f"j-1/1/{rank}").data) == b"3000000\n"
    head.run(TaskSpec("j-2/1/0", ["/bin/ls"], package=digest))
    head.until_exited("j-2/1/0")
    assert head.connections == 2, "the control connection and one for the blob"


def test_one_flipped_byte_is_refused_and_not_kept(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    good = pack({"job.sh": b"echo owned"})
    digest = head.add_blob(good)
    head.blobs[digest] = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    head.run(TaskSpec("j-1/1/0", ["/bin/sh", "job.sh"], package=digest))
    report = head.until_exited("j-1/1/0")
    assert report.exit_code is None and "damaged" in report.error and report.pid == 0
    assert not list((agent.directory / "packages").iterdir())
    head.blobs[digest] = good
    head.run(TaskSpec("j-1/2/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-1/2/0").exit_code == 0


def test_a_kept_archive_that_was_tampered_with_is_not_used(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"job.sh": b"echo good"}))
    head.run(TaskSpec("j-1/1/0", ["/bin/sh", "job.sh"], package=digest))
    head.until_exited("j-1/1/0")
    (agent.directory / "packages" / digest).write_bytes(pack({"job.sh": b"echo evil"}))
    head.run(TaskSpec("j-2/1/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-2/1/0").lost, "to be tried again"
    head.run(TaskSpec("j-2/2/0", ["/bin/sh", "job.sh"], package=digest))
    assert head.until_exited("j-2/2/0").exit_code == 0
    assert bytes(head.log("j-2/2/0").data) == b"good\n" and not head.log("j-2/1/0").data


def test_a_fetch_that_the_heads_restart_interrupts_is_made_again(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(30_000_000)}))
    head.run(TaskSpec("j-1/1/0", ["/usr/bin/stat", "-c", "%s", "a"], package=digest))
    head.until(lambda: head.connections == 2)
    head.stop()
    head.start()
    assert head.until_exited("j-1/1/0").exit_code == 0


def test_an_evil_archive_is_refused_and_nothing_runs(head, start_agent, tmp_path) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"ok": b"1", "../../../evil": b"1"}))
    head.run(TaskSpec("j-1/1/0", ["/bin/echo", "ran"], package=digest))
    report = head.until_exited("j-1/1/0")
    assert report.exit_code is None and "leads outside" in report.error
    assert not list(tmp_path.rglob("evil"))
    wait_until(lambda: not list((agent.directory / "work").iterdir()))


def test_a_package_the_head_does_not_have_is_a_sentence(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec("j-1/1/0", ["/bin/true"], package="0" * 64), TaskSpec("j-2/1/0", ["/bin/true"], package="../x"))
    assert "has no package" in head.until_exited("j-1/1/0").error
    assert "not the SHA-256" in head.until_exited("j-2/1/0").error


def test_a_task_killed_while_its_package_is_under_way_never_starts(head, start_agent, tmp_path) -> None:
    start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"a": os.urandom(20_000_000)}))
    head.run(TaskSpec("j-1/1/0", ["/usr/bin/touch", str(tmp_path / "ran")], package=digest))
    head.send("kill", tasks=["j-1/1/0"], grace_seconds=1, reason="cancelled")
    report = head.until_exited("j-1/1/0")
    assert report.stopped == "killed" and report.exit_code is None and report.error == "cancelled"
    head.run(TaskSpec("j-2/1/0", ["/bin/true"], package=digest))
    head.until_exited("j-2/1/0")
    assert not (tmp_path / "ran").exists()
