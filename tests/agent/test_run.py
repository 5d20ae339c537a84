from __future__ import annotations

import io
import zipfile

from clusterctl_runtime.wire import TaskSpec

from tests.agent.conftest import wait_until


def test_a_task_runs_and_its_output_and_exit_code_come_back(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec("j-1/1/0", ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]))
    report = head.until_exited("j-1/1/0")
    assert report.exit_code == 7
    assert bytes(head.log("j-1/1/0").data) == b"out\nerr\n"
    assert report.log_size == 8


def pack(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_task_runs_in_its_own_copy_of_the_package(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    digest = head.add_blob(pack({"data/a.txt": "hello", "job.py": "print(1)"}))
    script = "cat data/a.txt; echo changed > data/a.txt"
    for rank in range(2):
        head.run(TaskSpec(f"j-1/1/{rank}", ["/bin/sh", "-c", script], package=digest))
    for rank in range(2):
        assert head.until_exited(f"j-1/1/{rank}").exit_code == 0
        assert bytes(head.log(f"j-1/1/{rank}").data) == b"hello"
    wait_until(lambda: not list((agent.directory / "work").iterdir()))
