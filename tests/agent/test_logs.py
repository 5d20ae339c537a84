"""Logs through the real agent: no byte lost, none twice, and a printer that never stops fills neither memory nor disk."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"
MIB = 1024 * 1024
# Prints LINES numbered lines of 64 bytes as fast as it can; then waits for the fifo if there is one.
PRINTER = """
import sys, hashlib
lines, write = int(sys.argv[1]), sys.stdout.buffer.write
for start in range(0, lines, 1000):
    write(b"".join(b"%063d\\n" % n for n in range(start, min(lines, start + 1000))))
"""
FLOOD = "import os\nblock = b'x' * 65536\nwhile True: os.write(1, block)"


def expected(lines: int) -> bytes:
    return b"".join(b"%063d\n" % n for n in range(lines))


def printer(lines: int, **more) -> TaskSpec:
    return TaskSpec(T, [sys.executable, "-c", PRINTER, str(lines)], **more)


def same(left: bytes | bytearray, right: bytes) -> bool:
    """Compared by digest: a failing comparison of megabytes takes pytest minutes to explain."""
    return hashlib.sha256(left).digest() == hashlib.sha256(right).digest()


def memory(agent) -> int:
    for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def disk(agent) -> int:
    """Bytes in the agent's open files below its directory: the spool's files have no name."""
    total = 0
    for fd in Path(f"/proc/{agent.process.pid}/fd").iterdir():
        try:
            if str(agent.directory / "spool") in str(fd.readlink()):
                total += fd.stat().st_blocks * 512
        except OSError:
            continue
    return total


def cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_output_arrives_while_the_program_runs(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sh", "-c", "echo now; exec sleep 600"]))
    head.until(lambda: bytes(head.log(T).data) == b"now\n")


def test_ten_megabytes_arrive_whole_and_in_order(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(printer(160_000))
    report = head.until_exited(T)
    assert report.log_size == 160_000 * 64 and not head.log(T).gaps
    assert same(head.log(T).data, expected(160_000))


def test_a_head_that_acknowledges_nothing_stops_the_printer_after_a_window(head, start_agent) -> None:
    head.acks_logs = False
    agent = start_agent()
    head.until_joined()
    head.run(printer(160_000))
    pid = head.until(lambda: head.reports.get(T))[0]["pid"]
    wait_until(lambda: blocked(pid))
    received = head.until(lambda: head.log(T).received >= MIB and head.log(T).received)
    assert received <= 1.5 * MIB and head.reports[T][-1]["state"] == "running"
    before = cpu_ticks(agent.process.pid)
    beats = head.beats
    head.until(lambda: head.beats >= beats + 5)
    assert cpu_ticks(agent.process.pid) - before < 20, "waiting costs nothing"
    head.acks_logs = True
    head.ack(logs={T: received})
    head.until_exited(T)
    assert same(head.log(T).data, expected(160_000))


def blocked(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_over_the_cap_the_first_half_and_the_end_are_kept_and_the_gap_is_told(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    cap, lines = 2 * MIB, 100_000
    head.run(printer(lines, log_cap=cap))
    report = head.until_exited(T)
    whole, log = expected(lines), head.log(T)
    assert report.log_size == len(whole) and len(log.data) == cap
    assert log.gaps == [(cap // 2, len(whole) - cap)]
    assert same(log.data, whole[: cap // 2] + whole[-cap // 2 :])


def test_the_connection_breaks_again_and_again_and_no_byte_is_lost_or_doubled(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    lines = 300_000
    head.run(printer(lines))
    for times in range(2, 7):
        received = head.log(T).received
        head.until(lambda received=received: head.log(T).received > received)
        head.stop()
        head.start()
        head.until_joined(times)
    head.until_exited(T)
    assert same(head.log(T).data, expected(lines))


def test_while_the_head_is_away_output_goes_to_the_spool_and_comes_whole(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    lines = 300_000  # 19 MB: more than the window, less than the spool
    head.run(printer(lines))
    pid = head.until(lambda: head.reports.get(T))[0]["pid"]
    head.stop()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # it could print everything and end
    assert memory(agent) < 80 * MIB
    head.start()
    head.until_exited(T)
    assert same(head.log(T).data, expected(lines))
    wait_until(lambda: disk(agent) == 0)


def test_a_flood_while_the_head_is_away_stops_at_the_spools_limit(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, [sys.executable, "-c", FLOOD], log_cap=1024 * MIB))
    pid = head.until(lambda: head.reports.get(T))[0]["pid"]
    head.stop()
    wait_until(lambda: disk(agent) >= 63 * MIB)
    wait_until(lambda: blocked(pid))
    assert disk(agent) <= 66 * MIB and memory(agent) < 80 * MIB


def test_a_flood_over_its_cap_fills_neither_memory_nor_disk_nor_starves_its_neighbours(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    cap = 8 * MIB
    flood = "import os\nblock = b'x' * 65536\nfor _ in range(6400): os.write(1, block)"
    head.run(TaskSpec(T, [sys.executable, "-c", flood], log_cap=cap))
    head.until(lambda: head.log(T).received >= cap // 2)
    for n in range(5):
        head.run(TaskSpec(f"j-2/{n}/0", ["/bin/echo", "neighbour"]))
        assert head.until_exited(f"j-2/{n}/0").exit_code == 0
    assert disk(agent) <= cap and memory(agent) < 80 * MIB
    assert head.until_exited(T, 60).log_size == 400 * MIB and len(head.log(T).data) == cap


def test_many_printers_share_the_memory(head, start_agent) -> None:
    head.acks_logs = False
    agent = start_agent()
    head.until_joined()
    tasks = [f"j-{n}/1/0" for n in range(60)]
    flood = "import os\nfor _ in range(32): os.write(1, b'x' * 65536)"
    head.run(*[TaskSpec(task, [sys.executable, "-c", flood]) for task in tasks])
    head.until(lambda: sum(head.log(task).received for task in tasks) >= 32 * MIB, 60)
    assert memory(agent) < 120 * MIB
    head.acks_logs = True
    head.ack(logs={task: head.log(task).received for task in tasks})
    for task in tasks:
        assert head.until_exited(task, 60).log_size == 2 * MIB == head.log(task).received
