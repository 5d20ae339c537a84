"""A search for hyperparameters: trials side by side on as many nodes as the cluster may have, the bad ones stopped early.

Run it with `clusterctl submit job.py --max-retries 3`: when the driver is lost, the next attempt goes on with its trials.
STORAGE is a place that every node reaches and that outlives the machines: a bucket (s3://..., gs://...) or a mounted directory.
"""

import json
import os
import tempfile
from pathlib import Path

import ray
from ray import tune
from ray.tune import Checkpoint, CheckpointConfig, RunConfig
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

STORAGE = os.environ.get("STORAGE", "s3://my-bucket/tune")
NAME = os.environ.get("CLUSTERCTL_JOB_ID", "tune")  # the same in every attempt of a job
TRIALS = int(os.environ.get("TRIALS", "16"))
AT_ONCE = 4
STEPS = 8


def trial(config):
    """One set of hyperparameters: a parabola that is walked down. Put your model and data here."""
    x, first = 10.0, 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            state = json.loads((Path(directory) / "state.json").read_text())
        x, first = state["x"], state["step"] + 1
    for step in range(first, STEPS):
        x -= config["rate"] * 2 * x + config["drift"]
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "state.json").write_text(json.dumps({"x": x, "step": step}))
            tune.report({"loss": x * x, "step": step}, checkpoint=Checkpoint.from_directory(directory))


def make_tuner():
    """A new search, or the one that an earlier attempt began."""
    path = f"{STORAGE.rstrip('/')}/{NAME}"
    trainable = tune.with_resources(trial, {"cpu": 1})
    if tune.Tuner.can_restore(path):
        print(f"going on with {path}")
        return tune.Tuner.restore(path, trainable, resume_unfinished=True, resume_errored=True)
    return tune.Tuner(
        trainable,
        param_space={"rate": tune.loguniform(1e-3, 0.9), "drift": tune.uniform(-0.1, 0.1)},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=TRIALS,
            max_concurrent_trials=AT_ONCE,
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=STEPS, grace_period=2),
        ),
        # two: what Tune has written about its trials may name the checkpoint before the last
        run_config=RunConfig(name=NAME, storage_path=STORAGE, checkpoint_config=CheckpointConfig(num_to_keep=2)),
    )


def main():
    ray.init()  # `clusterctl submit` has set the address
    results = make_tuner().fit()
    best = results.get_best_result("loss", "min")
    print(
        f"{len(results)} trials, {results.num_errors} failed; best loss {best.metrics['loss']:.4g} with {best.config}"
    )


if __name__ == "__main__":
    main()
