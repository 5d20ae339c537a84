"""A service on the cluster's GPUs that grows with its traffic.

Deploy it with `clusterctl serve deploy job:app --name model --route-prefix /model`, and again after each change.
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
        return {"length": len(body["text"]), "gpu": self.gpu}


app = Model.bind()
