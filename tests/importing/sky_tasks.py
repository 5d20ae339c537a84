"""Tasks of SkyPilot, in the shapes of its documentation."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "hello": "resources: {infra: aws/us-east-1}\nrun: echo hello\n",
    "sizes": "name: sizes\nresources: {infra: gcp/us-central1, cpus: 8+, memory: 4x, disk_size: 1TB}\nrun: make test\n",
    "one accelerator": "resources: {cloud: aws, region: us-west-2, zone: us-west-2a, accelerators: L4}\nrun: python a.py\n",
    "several accelerators": "resources: {infra: aws/us-east-1, accelerators: {L4: 1, A10G: 1}}\nrun: python a.py\n",
    "a list of them": 'resources: {infra: aws/us-east-1, accelerators: ["A100:8", "A100-80GB:8"]}\nrun: python a.py\n',
    "a set as text": 'resources: {infra: aws/us-east-1, accelerators: "{L4:1, T4:1}"}\nrun: python a.py\n',
    "nodes": """\
name: Train_Llama
resources:
  infra: aws/us-east-1
  accelerators: H100:8
  use_spot: yes
  disk_size: 512
  disk_tier: best
  image_id: docker:nvcr.io/nvidia/pytorch:24.05-py3
  autostop: {idle_minutes: 10, down: true}
  labels: {team: nlp}
  ports: [8080]
num_nodes: 2
workdir: .
envs: {MODEL: llama, HF_TOKEN: hf_abcdefghijklmnopqrstuvwxyz, BUCKET: my-bucket, LATER: null}
secrets: {WANDB_API_KEY: 0123456789abcdef}
file_mounts:
  /data: s3://${BUCKET}/data
  ~/code: ./src
  /checkpoints: {name: ckpt, source: s3://ckpts, mode: MOUNT_CACHED}
  /made: {name: made, mode: MOUNT}
setup: |
  pip install -r requirements.txt
run: |
  torchrun --nnodes $SKYPILOT_NUM_NODES --node_rank=$SKYPILOT_NODE_RANK train.py
""",
    "any of": """\
resources:
  accelerators: A100:8
  any_of: [{infra: aws/us-west-2, use_spot: true}, {infra: gcp/us-central1}]
run: python a.py
""",
    "ordered": """\
resources:
  ordered:
    - {infra: gcp/us-central1, instance_type: n2-standard-8}
    - {infra: aws/us-east-1, instance_type: m6i.2xlarge}
run: python a.py
""",
    "service": """\
name: llm
resources: {infra: gcp/us-central1, accelerators: L4:1, ports: 8080}
service: {readiness_probe: {path: /v1/models, initial_delay_seconds: 60}, replica_policy: {min_replicas: 2, max_replicas: 4}}
run: vllm serve $MODEL --port 8080
envs: {MODEL: facebook/opt-125m}
""",
    "recovery": """\
resources: {infra: azure/eastus, cpus: 4, job_recovery: {strategy: FAILOVER, max_restarts_on_errors: 3}, autostop: 30}
run: python a.py
""",
    "pods": "resources: {infra: k8s/my-context, accelerators: L4:1}\nrun: python a.py\n",
    "nothing to run": "resources: {infra: aws/us-east-1, instance_type: m6i.large}\nsetup: make\n",
}
REFUSED: dict[str, tuple[str, str]] = {  # task, what is said
    "no place": ("run: echo hi\n", "t.yaml:1:1: the task does not say where it runs"),
    "no region": ("resources: {infra: aws}\nrun: a\n", "t.yaml:1:13: resources.infra: it names no region"),
    "another cloud": ("resources: {infra: lambda/us-east-1}\nrun: a\n", "clusterctl cannot get machines of lambda"),
    "a TPU": ("resources: {infra: gcp/us-central1, accelerators: tpu-v5e-8}\nrun: a\n", "no pool has TPUs"),
    "half a GPU": ('resources: {infra: aws/us-east-1, accelerators: "L4:0.5"}\nrun: a\n', "a node has whole GPUs"),
    "a slip": ("resources: {infra: aws/us-east-1, acelerators: L4}\nrun: a\n", "did you mean 'accelerators'?"),
    "a slip at the top": ("resources: {infra: aws/us-east-1}\nruns: a\n", "t.yaml:2:1: runs: there is no such key"),
    "no amount": ("resources: {infra: aws/us-east-1, cpus: many}\nrun: a\n", "must be a number of CPUs"),
    "no such type": ("resources: {infra: aws/us-east-1, instance_type: m6i.lage}\nrun: a\n", "t.yaml:1:35: "),
    "a pipeline": ("name: p\n---\nrun: a\n---\nrun: b\n", "there are 3 documents"),
}  # fmt: skip
