"""Data-parallel training, resumed from its last checkpoint when a machine is lost, and saved in time when one is about to be.

Run it with `clusterctl submit job.py`. STORAGE is a place that every node reaches and that outlives the machines: a bucket
(s3://..., gs://...) or a mounted directory. WORKERS and DEVICE ("gpu" or "cpu") are what it trains on.
"""

import os
import tempfile
from pathlib import Path

import ray
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

STORAGE = os.environ.get("STORAGE", "s3://my-bucket/train")
WORKERS = int(os.environ.get("WORKERS", "8"))
DEVICE = os.environ.get("DEVICE", "gpu")
EPOCHS = int(os.environ.get("EPOCHS", "20"))
EVERY = 5  # epochs from one checkpoint to the next


def train_loop(config):
    """One worker: a small network on random data. Put your model and data here."""
    import torch

    device = train.torch.get_device()
    network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    model = train.torch.prepare_model(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    first, rushed = 0, False
    checkpoint = train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / "state.pt", map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
    for epoch in range(first, config["epochs"]):
        inputs = torch.randn(4096, 64, device=device)
        loss = torch.nn.functional.mse_loss(model(inputs), inputs.sum(dim=1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Every worker asks, and all get the same answer: whether a machine of theirs is being taken away.
        leaving = train.get_preemption_info() is not None
        due = epoch % EVERY == EVERY - 1 or epoch == config["epochs"] - 1 or (leaving and not rushed)
        rushed = rushed or leaving
        with tempfile.TemporaryDirectory() as directory:
            saved = None
            if due and train.get_context().get_world_rank() == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                torch.save(state, Path(directory) / "state.pt")
                saved = Checkpoint.from_directory(directory)
            train.report({"epoch": epoch, "first": first, "loss": loss.item()}, checkpoint=saved)


def main():
    ray.init()  # `clusterctl submit` has set the address
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"lr": 1e-3, "epochs": EPOCHS},
        scaling_config=ScalingConfig(num_workers=WORKERS, use_gpu=DEVICE == "gpu"),
        run_config=RunConfig(
            name=os.environ.get("CLUSTERCTL_JOB_ID", "train"),
            storage_path=STORAGE,
            failure_config=FailureConfig(max_failures=5),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    print(trainer.fit().metrics)


if __name__ == "__main__":
    main()
