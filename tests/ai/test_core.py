"""Ray Core: resources, labels, placement groups, runtime environments, requests, and actors that outlive nodes and drivers."""

from __future__ import annotations

from tests.ai.conftest import Jobs
from tests.support.cluster import wait_until

SHAPES = """\
import json, os, sys, ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as Within

def where(*names):
    context = ray.get_runtime_context()
    found = {"node": context.get_node_id(), "labels": context.get_node_labels(), "gpus": ray.get_gpu_ids()}
    return {**found, "env": {name: os.environ.get(name) for name in names}}

def spread(strategy, bundles):
    group = placement_group(bundles, strategy=strategy)
    ray.get(group.ready())
    nodes = ray.get([
        ray.remote(where).options(num_cpus=1, scheduling_strategy=Within(group, placement_group_bundle_index=n)).remote()
        for n in range(len(bundles))
    ])
    remove_placement_group(group)
    return len({one["node"] for one in nodes})

@ray.remote(num_cpus=0, num_gpus=0.5, resources={"FAST": 1})
class Half:
    def gpus(self):
        return ray.get_gpu_ids()

def main():
    ray.init(runtime_env={"env_vars": {"WORD": "hi"}, "py_modules": [os.path.abspath("module")], "working_dir": "."})
    asked = [ray.remote(where).options(label_selector={"disk": "nvme"}, num_cpus=1).remote("WORD")]
    asked += [ray.remote(where).options(label_selector={"team": "vision"}, num_cpus=2).remote()]
    halves = [Half.remote(), Half.remote()]
    labelled = ray.get(asked)
    said = {"labels": [one["labels"] for one in labelled], "word": labelled[0]["env"]["WORD"]}
    said["halves"] = ray.get([half.gpus.remote() for half in halves])
    del halves
    said["pack"] = spread("PACK", [{"CPU": 1}] * 2)
    said["spread"] = spread("STRICT_SPREAD", [{"CPU": 1}] * 2)

    @ray.remote
    def imports():
        import module, beside
        return [module.NAME, beside.NAME]
    said["imports"] = ray.get(imports.remote())
    print(json.dumps(said))

if __name__ == "__main__":
    main()
"""

REQUEST = """\
import json, os, time, ray
from pathlib import Path
from ray.autoscaler.sdk import request_resources
ray.init()
request_resources(bundles=[{"CPU": 2}] * 3)
done = Path(os.environ["STORAGE"]) / "request.done"
while not done.exists():
    time.sleep(0.05)
request_resources(bundles=[])
print(json.dumps({"asked": 3}))
"""

KEEPER = """\
import json, os, ray
ray.init(namespace="kept")
@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Keeper:
    def __init__(self): self.lives = int(ray.get_runtime_context().was_current_actor_reconstructed)
    def where(self): return {"node": ray.get_runtime_context().get_node_id(), "again": self.lives}
Keeper.options(name="keeper", lifetime="detached").remote()
print(json.dumps(ray.get(ray.get_actor("keeper").where.remote())))
"""

ASK = """\
import json, ray
ray.init(namespace="kept")
keeper = ray.get_actor("keeper")
print(json.dumps(ray.get(keeper.where.remote())))
"""


def test_shapes_labels_groups_and_runtime_environments_are_what_the_program_asked_for(jobs: Jobs) -> None:
    work = jobs.write("shapes", SHAPES)
    (work / "beside.py").write_text("NAME = 'beside'\n")
    (work / "module").mkdir()
    (work / "module" / "__init__.py").write_text("NAME = 'module'\n")
    said = jobs.result(work)
    assert [labels.get("disk") for labels in said["labels"]] == ["nvme", None]
    assert said["labels"][1]["team"] == "vision"
    assert said["word"] == "hi"
    assert said["halves"] == [[0], [0]], "two halves of one GPU"
    assert (said["pack"], said["spread"]) == (1, 2)
    assert said["imports"] == ["module", "beside"]


def test_nodes_come_for_what_is_requested_beforehand_and_a_request_taken_back_keeps_none(jobs: Jobs) -> None:
    job = jobs.start(jobs.write("request", REQUEST))
    wait_until(lambda: len(jobs.roomy_nodes()) >= 3, what="three nodes for nothing but the request")
    (jobs.shared / "request.done").touch()
    jobs.wait(job)


def test_a_detached_actor_outlives_its_driver_and_its_node(jobs: Jobs) -> None:
    born = jobs.result(jobs.write("keeper", KEEPER))
    assert not born["again"]
    ask = jobs.write("ask", ASK)
    assert jobs.result(ask) == born, "its driver has ended"
    jobs.kill_node(born["node"])
    again = jobs.result(ask)
    assert again["again"] and again["node"] != born["node"]
    (ask / "job.py").write_text(ASK.replace("print", "ray.kill(keeper); print").replace(
        "json.dumps(ray.get(keeper.where.remote()))", 'json.dumps({"killed": True})'))  # fmt: skip
    assert jobs.result(ask) == {"killed": True}
