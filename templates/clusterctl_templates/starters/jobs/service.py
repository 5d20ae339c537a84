"""A service that grows with its traffic.

Deploy it with `clusterctl serve deploy job:app --name model --route-prefix /model`, and again after each change.
"""

from ray import serve


@serve.deployment(
    ray_actor_options={"num_cpus": 1},
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8},
)
class Model:
    """Answers with the length of the text. Put your model here: it is loaded once for each replica."""

    async def __call__(self, request):
        return {"length": len(request.query_params.get("text", ""))}

    def check_health(self):
        """Raise here when the model cannot answer: Serve replaces the replica."""


app = Model.bind()
