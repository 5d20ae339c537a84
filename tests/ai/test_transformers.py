"""Hugging Face's Transformers need nothing of ours: its Trainer runs in Train's workers as everywhere."""

from __future__ import annotations

from tests.ai.conftest import Jobs

# A model of random weights from a configuration, and data made here: nothing comes from a hub.
TINY = """\
import json, os
from ray import train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

def loop():
    import torch
    from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, max_position_embeddings=16, **sizes))
    words = torch.randint(5, 50, (32, 8), generator=torch.Generator().manual_seed(1))
    rows = [{"input_ids": row, "labels": int(row[0] > 27)} for row in words]
    arguments = TrainingArguments(
        output_dir="out", max_steps=4, per_device_train_batch_size=4, save_strategy="steps", save_steps=2, logging_steps=2,
        use_cpu=True, report_to=[], disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.add_callback(RayTrainReportCallback())
    prepare_trainer(trainer).train()

if __name__ == "__main__":
    result = TorchTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="tiny", storage_path=os.environ["STORAGE"]),
    ).fit()
    saved = sorted(os.listdir(result.checkpoint.path + "/checkpoint"))
    print(json.dumps({"step": result.metrics["step"], "saved": saved}))
"""


def test_a_tiny_model_is_trained_and_saved_by_two_workers(jobs: Jobs) -> None:
    said = jobs.result(jobs.write("transformers", TINY))
    assert said["step"] == 4
    assert {"config.json", "model.safetensors", "trainer_state.json"} <= set(said["saved"])
