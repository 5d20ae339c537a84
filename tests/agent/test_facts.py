"""What a host has is what it has: GPUs by drivers in every mood, CPUs and memory by quotas of control groups."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from clusterctl_runtime.agent import facts
from clusterctl_runtime.agent.tasks.gpus import Gpus
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

A100 = "NVIDIA A100-SXM4-40GB"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts an nvidia-smi with this shell script on PATH."""

    def install(script: str) -> Path:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
        return tool

    return install


def rows(*lines: str) -> str:
    return "\n".join(f"echo '{line}'" for line in lines)


def test_a_warning_and_a_failure_code_take_no_gpu_away(driver) -> None:
    listed = rows(*(f"{A100}, 40960, GPU-{i}, Disabled" for i in range(8)))
    driver(f"{listed}\necho 'WARNING: infoROM is corrupted at gpu 0000:3B:00.0' >&2\nexit 14")
    found = facts.read_gpus()
    assert [gpu["uuid"] for gpu in found["gpus"]] == [f"GPU-{i}" for i in range(8)]
    assert found["gpus"][0] == {"name": A100, "memory": 40960 * 2**20, "uuid": "GPU-0"}
    assert found["gpu_trouble"] == ""


@pytest.mark.parametrize(
    "sick",
    [
        f"{A100}, [GPU requires reset], GPU-1, [GPU requires reset]",
        f"{A100}, [Unknown Error], GPU-1, [Unknown Error]",
        f"{A100}, 40960, [GPU is lost], Disabled",
        "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error",
    ],
)
def test_one_sick_gpu_is_not_counted_and_is_told_and_the_others_are_named_exactly(driver, sick: str) -> None:
    driver(rows(f"{A100}, 40960, GPU-0, Disabled", sick, f"{A100}, 40960, GPU-2, Disabled") + "\nexit 6")
    found = facts.read_gpus()
    assert [gpu["uuid"] for gpu in found["gpus"]] == ["GPU-0", "GPU-2"]
    assert found["gpu_trouble"] == sick
    gpus = Gpus(2)
    gpus.name(found)
    assert gpus.visible(gpus.assign(2)) == "GPU-0,GPU-2"


def test_where_a_sick_gpu_ends_the_query_the_list_names_the_others(driver) -> None:
    lost = "Unable to determine the device handle for gpu 0000:41:00.0: GPU is lost.  Reboot the system to recover this GPU"
    listed = rows(f"GPU 0: {A100} (UUID: GPU-aa)", lost, f"GPU 2: {A100} (UUID: GPU-cc)")
    driver(f'if [ "$1" = -L ]; then\n{listed}\nelse echo "{lost}"; fi\nexit 15')
    found = facts.read_gpus()
    assert [(gpu["name"], gpu["uuid"]) for gpu in found["gpus"]] == [(A100, "GPU-aa"), (A100, "GPU-cc")]
    assert found["gpu_trouble"] == lost


def test_a_gpu_that_is_cut_counts_by_its_slices(driver) -> None:
    query = rows(f"{A100}, 40960, GPU-a, Enabled", f"{A100}, 40960, GPU-b, Disabled", f"{A100}, 40960, GPU-c, Enabled")
    listed = rows(
        f"GPU 0: {A100} (UUID: GPU-a)",
        "  MIG 1g.5gb      Device  0: (UUID: MIG-1)",
        "  MIG 3g.20gb     Device  1: (UUID: MIG-2)",
        f"GPU 1: {A100} (UUID: GPU-b)",
        f"GPU 2: {A100} (UUID: GPU-c)",
    )
    driver(f'if [ "$1" = -L ]; then\n{listed}\nelse\n{query}\nfi')
    found = facts.read_gpus()
    assert [(gpu["name"], gpu["memory"] >> 30, gpu["uuid"]) for gpu in found["gpus"]] == [
        (f"{A100} MIG 1g.5gb", 5, "MIG-1"),
        (f"{A100} MIG 3g.20gb", 20, "MIG-2"),
        (A100, 40, "GPU-b"),
    ]
    assert found["gpu_trouble"].startswith("GPU-c is to be cut (MIG is on) and has no slices")
    gpus = Gpus(3)
    gpus.name(found)
    assert gpus.visible(gpus.assign(1)) == "MIG-1"


def test_devices_of_an_old_driver_and_those_that_share_the_machines_memory_count(driver) -> None:
    old = 'case "$*" in *mig*) echo \'Field "mig.mode.current" is not a valid field to query.\'; exit 2;; esac\n'
    driver(old + rows("Tesla K80, 11441, GPU-k"))
    assert [gpu["name"] for gpu in facts.read_gpus()["gpus"]] == ["Tesla K80"]
    driver(rows("NVIDIA GB10, [N/A], GPU-s, [N/A]"))
    found = facts.read_gpus()
    assert found["gpus"] == [{"name": "NVIDIA GB10", "memory": 0, "uuid": "GPU-s"}] and not found["gpu_trouble"]


def test_a_driver_that_fails_or_is_stuck_says_so(driver, monkeypatch) -> None:
    failed = "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."
    driver(rows(failed) + "\nexit 9")
    assert facts.read_gpus()["gpu_trouble"] == failed
    monkeypatch.setattr(facts, "SMI_SECONDS", 0.2)
    tool = driver("exec sleep 600")
    found = facts.read_gpus()
    assert found["gpus"] == [] and f"{tool} did not answer within 0.2 s" in found["gpu_trouble"]


def test_no_join_waits_for_a_driver_that_is_stuck_and_a_late_answer_counts(head, start_agent, driver, tmp_path) -> None:
    slow = tmp_path / "go"
    driver(
        f"while [ ! -e {slow} ]; do sleep 0.05; done\necho '{A100}, 40960, GPU-1'\necho '{A100}, [Unknown Error], GPU-2'"
    )
    start_agent(resources={"CPU": 1, "GPU": 1})
    began = time.monotonic()
    assert "gpus" not in head.until_joined()["facts"]
    slow.touch()

    def seen() -> bool:
        task = f"j-{time.monotonic_ns()}/1/0"
        head.run(TaskSpec(task, ["/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES"], gpus=1))
        head.until_exited(task)
        return bytes(head.log(task).data) == b"GPU-1\n"

    wait_until(seen)
    assert time.monotonic() - began < 60


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes this process believe that it is in these control groups: {directory: {file: content}} below each mount."""

    def believe(membership: str, mounts: dict[str, str], files: dict[str, str]) -> None:
        own = tmp_path / "proc"
        own.mkdir()
        (own / "cgroup").write_text(membership)
        lines = [
            f"30 20 0:{n} {root} {tmp_path / place} rw - {kind}"
            for n, (place, kind) in enumerate(mounts.items())
            for root in ["/"]
        ]
        (own / "mountinfo").write_text("\n".join(lines) + "\n")
        for place in mounts:
            (tmp_path / place).mkdir()
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        monkeypatch.setattr(facts, "OWN_PROCESS", own)
        monkeypatch.setattr(facts.os, "sched_getaffinity", lambda pid: set(range(64)))

    return believe


def test_quotas_of_every_group_above_count_in_the_new_hierarchy(groups) -> None:
    groups(
        "0::/slice/job\n",
        {"v2": "cgroup2 cgroup2 rw"},
        {
            "v2/slice/cpu.max": "350000 100000\n",
            "v2/slice/job/cpu.max": "max 100000\n",
            "v2/slice/memory.max": "max\n",
            "v2/slice/job/memory.max": f"{3 << 30}\n",
            "v2/slice/memory.high": f"{1 << 30}\n",
        },
    )
    assert facts.own_cpus() == 3
    assert facts.own_memory() == 1 << 30


def test_quotas_count_in_the_old_hierarchy_and_half_a_cpu_is_one(groups) -> None:
    groups(
        "5:memory:/a\n4:cpu,cpuacct:/a/b\n0::/\n",
        {"cpu": "cgroup cgroup rw,cpu,cpuacct", "mem": "cgroup cgroup rw,memory", "v2": "cgroup2 cgroup2 rw"},
        {
            "cpu/a/cpu.cfs_quota_us": "50000\n",
            "cpu/a/cpu.cfs_period_us": "100000\n",
            "cpu/a/b/cpu.cfs_quota_us": "-1\n",
            "cpu/a/b/cpu.cfs_period_us": "100000\n",
            "mem/memory.limit_in_bytes": "9223372036854771712\n",
            "mem/a/memory.limit_in_bytes": f"{1 << 30}\n",
        },
    )
    assert facts.own_cpus() == 1
    assert facts.own_memory() == 1 << 30


def test_a_container_that_sees_only_its_own_group_has_that_groups_limits(groups) -> None:
    groups("0::/../outside\n", {"v2": "cgroup2 cgroup2 rw"}, {"v2/cpu.max": "200000 100000", "v2/memory.max": "4096"})
    assert (facts.own_cpus(), facts.own_memory()) == (2, 4096)
