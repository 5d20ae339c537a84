"""What an agent measures: machines, GPUs by what nvidia-smi really prints, and the processes of jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusterctl_runtime.agent.measuring.gpus import GpuFigures, Xids, indices, total_use
from clusterctl_runtime.agent.measuring.jobs import JobFigures, Running
from clusterctl_runtime.agent.measuring.machine import Machine
from clusterctl_runtime.agent.tasks.environ import TASK_MARK

from tests.support.cluster import wait_until

H100 = "NVIDIA H100 80GB HBM3"
BURN = """
import os, sys, time
data = bytearray(64 << 20)
if os.fork() == 0:
    deadline = time.process_time() + 0.5
    while time.process_time() < deadline:
        pass
    open("burnt", "w")
time.sleep(600)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts an nvidia-smi on PATH that prints these lines."""

    def install(*lines: str) -> None:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")

    return install


def figures(log: Path = Path("/nowhere"), trouble: str = "") -> Any:
    return GpuFigures(lambda: trouble, log).look()


def test_each_gpu_is_told_by_its_number_without_what_the_driver_does_not_say(driver) -> None:
    driver(
        f"0, GPU-aa, 00000000:3B:00.0, {H100}, 43, 81559, 20480, 55, 312.45, 0, 0",
        f"1, GPU-bb, 00000000:5E:00.0, {H100}, [N/A], 81559, [N/A], 31, [N/A], 2, 1",  # it is cut into slices
        "2, GPU-cc, 00000001:5E:00.0, Tesla K80, 0, 11441, 0, 29, [Not Supported], N/A, [Unknown Error]",
    )
    gpus, sick = figures()
    assert gpus["0"] == {
        "uuid": "GPU-aa", "name": H100, "busy": 0.43, "memory": 81559 * 2**20, "memory_used": 20480 * 2**20, "celsius": 55,
        "watts": 312.45, "corrected": 0, "uncorrected": 0, "xids": {},
    }  # fmt: skip
    assert {"busy", "memory_used", "watts"}.isdisjoint(gpus["1"]) and gpus["1"]["uncorrected"] == 1
    assert {"watts", "corrected", "uncorrected"}.isdisjoint(gpus["2"]) and gpus["2"]["celsius"] == 29
    assert not sick and total_use(gpus) == {}
    assert total_use({"0": gpus["0"]}) == {"gpu": 0.43, "gpu_memory": 20480 * 2**20}
    assert indices(["1", "GPU-aa", "MIG-7"], gpus) == ["1", "0", ""]


@pytest.mark.parametrize(
    "lines",
    [
        ["Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error"],
        [f"0, GPU-aa, 0:3B:00.0, {H100}, 1, 2, 1, 30, 90, 0, 0", "1, [GPU is lost], 0, 0, 1, 2, 3, 4, 5, 6, 7"],
        ["NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."],
        [],
    ],
)  # fmt: skip
def test_a_gpu_that_is_lost_and_a_driver_that_says_nothing_are_trouble(driver, lines: list[str]) -> None:
    driver(*lines)
    gpus, sick = figures()
    assert sick and set(gpus) <= {"0"}


def test_what_the_agent_knows_of_a_sick_gpu_is_trouble_and_no_driver_is_none(driver, monkeypatch) -> None:
    driver(f"0, GPU-aa, 0:3B:00.0, {H100}, 1, 2, 1, 30, 90, 0, 0")
    assert figures(trouble="GPU 1 is lost")[1] and not figures()[1]
    monkeypatch.setattr("clusterctl_runtime.agent.facts._tool", lambda: None)
    assert figures() is None


def test_errors_of_the_kernels_log_are_counted_by_gpu_and_number_from_look_to_look(driver, tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.\n")
    xids = Xids(log)
    with log.open("a") as file:
        file.write("4,2,9,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=12, name=python\n6,3,9,-;usb 1-1: new device\n")
    assert xids.look() == {":3b:00": {"79": 2}} == xids.look()
    with log.open("a") as file:
        file.write("4,4,9,-;NVRM: Xid (0000:5E:00): 31, Ch 00000010\n")
    assert xids.look() == {":3b:00": {"79": 2}, ":5e:00": {"31": 1}}
    driver(f"0, GPU-aa, 00000000:3B:00.0, {H100}, 1, 2, 1, 30, 90, 0, 0")
    told = figures(log)[0]["0"]["xids"]
    assert told["79"] == 2 and told["48"] == 0 and "31" not in told
    assert Xids(tmp_path / "closed").look() == {}


def test_of_a_machine_disks_count_once_and_networks_within_it_do_not(tmp_path: Path) -> None:
    sectors = "10 0 8 0 5 0 4 0 0 0 0"
    for disk, real in {"sda": True, "dm-0": False, "loop0": False}.items():
        place = tmp_path / "sys" / "block" / disk
        place.mkdir(parents=True)
        (place / "stat").write_text(sectors)
        if real:
            (place / "device").mkdir()
    (tmp_path / "sys/class/net/eth0/device").mkdir(parents=True)
    net = tmp_path / "proc" / "net"
    net.mkdir(parents=True)
    lines = [
        f"{name}: {got} 1 0 0 0 0 0 0 {sent} 1 0 0"
        for name, got, sent in (("lo", 9, 9), ("eth0", 70, 30), ("veth1", 5, 5))
    ]
    (net / "dev").write_text("Inter-|\n face |\n" + "\n".join(lines))
    (tmp_path / "proc" / "stat").write_text("cpu  100 0 100 5 5 0 0 0 0 0\n")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\n")
    machine = Machine({"root": Path("/"), "work": Path("/")}, tmp_path / "proc", tmp_path / "sys")
    machine._group, machine._contained = None, False
    found = machine.look()
    node = found["node"]
    assert (node["read"], node["written"]) == (8 * 512, 4 * 512)
    assert (node["received"], node["sent"]) == (70, 30)
    assert (node["cpu_seconds"], node["memory_used"]) == (200 / os.sysconf("SC_CLK_TCK"), 60 * 1024)
    assert list(found["disks"]) == ["root"], "one file system, told once"
    assert found["disks"]["root"][0] >= found["disks"]["root"][1] > 0


def test_without_control_groups_a_job_is_what_bears_its_mark_and_its_time_never_falls(tmp_path: Path) -> None:
    jobs, task = JobFigures(), Running("j-1/1/0", None, ["0"], 0.5)
    env = {**os.environ, TASK_MARK: task.task}
    with subprocess.Popen([sys.executable, "-c", BURN], cwd=tmp_path, env=env, start_new_session=True) as process:
        try:
            wait_until((tmp_path / "burnt").exists)
            told = jobs.look([task])["j-1"]
            child = next(pid for pid in map(str, psutil.pids()) if _parent(pid) == process.pid)
            os.kill(int(child), 9)
            wait_until(lambda: jobs.look([task])["j-1"]["processes"] < told["processes"] or _parent(child) is None)
            after = jobs.look([task])["j-1"]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert told["processes"] == 2 and told["memory"] > 64 << 20 and told["devices"] == {"0": 0.5}
    assert after["cpu_seconds"] >= told["cpu_seconds"] > 0.4
    assert jobs.look([]) == {}


def test_what_a_job_has_used_does_not_fall_when_one_of_its_tasks_ends() -> None:
    tasks = [Running(f"j-1/1/{rank}", None) for rank in (0, 1)]
    jobs = JobFigures()
    started = [subprocess.Popen(["/bin/sleep", "600"], env={TASK_MARK: task.task}) for task in tasks]
    try:
        wait_until(lambda: jobs.look(tasks)["j-1"]["processes"] == 2)
        jobs._sums["j-1/1/0"].cpu, jobs._sums["j-1/1/1"].cpu = 3.0, 4.0
        assert [jobs.look(some)["j-1"]["cpu_seconds"] for some in (tasks, tasks[1:], tasks[1:])] == [7.0, 7.0, 7.0]
        assert jobs.look([]) == {} and jobs.look(tasks[1:])["j-1"]["cpu_seconds"] < 1
    finally:
        for process in started:
            process.kill()
            process.wait()


def _parent(pid: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def test_an_agent_tells_its_figures_with_the_first_beats_in_a_few_bytes(head, start_agent) -> None:
    head.beat_seconds = 0.1
    start_agent(resources={"CPU": 1})
    told = head.until(lambda: head.figures)[0]
    assert {"cpus", "cpu_seconds", "memory", "memory_used"} <= set(told["node"]) and "root" in told["disks"]
    assert told["jobs"] == {} and len(str(told)) < 2048
    assert {"cpu", "memory"} <= set(head.uses[0])
