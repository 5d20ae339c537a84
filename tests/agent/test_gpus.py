"""Which task gets which GPU."""

from __future__ import annotations

import pytest
from clusterctl_runtime.agent.tasks.gpus import Gpus, NoFreeGpu
from clusterctl_runtime.wire import TaskSpec


def test_whole_gpus_are_given_out_once_and_come_back() -> None:
    gpus = Gpus(4)
    first, second = gpus.assign(2), gpus.assign(2)
    assert first.ids == [0, 1] and second.ids == [2, 3]
    with pytest.raises(NoFreeGpu, match="asks for 1 GPU"):
        gpus.assign(1)
    gpus.free(first)
    assert gpus.assign(1).ids == [0]


def test_fractions_fill_one_gpu_before_they_touch_the_next() -> None:
    gpus = Gpus(2)
    shares = [gpus.assign(0.25) for _ in range(4)]
    assert [s.ids for s in shares] == [[0]] * 4
    assert gpus.assign(0.5).ids == [1]
    with pytest.raises(NoFreeGpu):
        gpus.assign(1)


def test_ten_tenths_make_a_whole_and_freeing_them_leaves_nothing() -> None:
    gpus = Gpus(1)
    shares = [gpus.assign(0.1) for _ in range(10)]
    with pytest.raises(NoFreeGpu):
        gpus.assign(0.1)
    for share in shares:
        gpus.free(share)
    assert gpus.assign(1).ids == [0]


def test_what_the_head_chose_is_honoured_and_counts() -> None:
    gpus = Gpus(4)
    assert gpus.assign(2, [3, 1]).ids == [3, 1]
    assert gpus.assign(2).ids == [0, 2]
    with pytest.raises(NoFreeGpu, match="GPU 4"):
        gpus.assign(1, [4])


def test_an_agent_that_was_given_a_subset_hands_out_that_subset() -> None:
    gpus = Gpus(2, "5,7")
    assert gpus.visible(gpus.assign(2)) == "5,7"


def test_tasks_see_their_gpus_and_only_those(head, start_agent) -> None:
    start_agent(resources={"CPU": 2, "GPU": 3})
    head.until_joined()
    show = ["/bin/sh", "-c", 'echo "[$CUDA_VISIBLE_DEVICES]"; exec sleep 600 > /dev/null']
    head.run(TaskSpec("j-1/1/0", show, gpus=2), TaskSpec("j-2/1/0", show, gpus=0.5), TaskSpec("j-3/1/0", show))
    for task, seen in {"j-1/1/0": b"[0,1]\n", "j-2/1/0": b"[2]\n", "j-3/1/0": b"[]\n"}.items():
        head.until(lambda task=task, seen=seen: bytes(head.log(task).data) == seen)
    assert head.reports["j-1/1/0"][-1]["gpu_ids"] == [0, 1]
    head.run(TaskSpec("j-4/1/0", show, gpus=1))
    refused = head.until_exited("j-4/1/0")
    assert refused.exit_code is None and "not free here" in refused.error
    head.send("kill", tasks=["j-1/1/0"], grace_seconds=5, reason="")
    head.until_exited("j-1/1/0")
    head.run(TaskSpec("j-5/1/0", show, gpus=1, gpu_ids=[1]))
    head.until(lambda: bytes(head.log("j-5/1/0").data) == b"[1]\n")
