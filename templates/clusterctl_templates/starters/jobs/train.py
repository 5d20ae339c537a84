"""Data-parallel training on eight GPUs, resumed from its last checkpoint when a machine is lost.

Run it with `clusterctl submit job.py`. Set STORAGE to a bucket (s3://..., gs://...): checkpoints must outlive the machines.
"""

import os
import tempfile
from pathlib import Path

import ray
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

STORAGE = os.environ.get("STORAGE", "s3://my-bucket/train")
EPOCHS = 20


def train_loop(config):
    """One worker: a small network on random data. Put your model and data here."""
    import torch

    device = train.torch.get_device()
    network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    model = train.torch.prepare_model(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    first = 0
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
        with tempfile.TemporaryDirectory() as directory:
            saved = None
            if train.get_context().get_world_rank() == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
                torch.save(state, Path(directory) / "state.pt")
                saved = Checkpoint.from_directory(directory)
            train.report({"epoch": epoch, "loss": loss.item()}, checkpoint=saved)


def main():
    ray.init(runtime_env={"pip": ["torch"]})  # `clusterctl submit` has set the address
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"lr": 1e-3, "epochs": EPOCHS},
        scaling_config=ScalingConfig(num_workers=8, use_gpu=True),
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
