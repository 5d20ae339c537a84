"""A service on the cluster's GPUs that grows with its traffic and stays when the job ends.

Run it with `clusterctl submit job.py`.
"""

import ray
from ray import serve


@serve.deployment(
    ray_actor_options={"num_gpus": 1},
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8},
    health_check_period_s=10,
)
class Model:
    """Answers with the length of the text. Put your model here: it is loaded once for each replica."""

    def __init__(self):
        self.gpu = ray.get_gpu_ids()[0]

    async def __call__(self, request):
        body = await request.json()
        return self.measure(body["text"])

    def measure(self, text):
        return {"length": len(text), "gpu": self.gpu}


def main():
    ray.init()  # `clusterctl submit` has set the address
    handle = serve.run(Model.bind(), name="model", route_prefix="/model")
    print(handle.measure.remote("hello").result())
    print("serving on port 8000 of the head node, path /model")


if __name__ == "__main__":
    main()
