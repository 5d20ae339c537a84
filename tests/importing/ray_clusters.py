"""Cluster files of `ray up`, in the shapes of its documentation."""

from __future__ import annotations

AWS = """\
cluster_name: Vision_2
max_workers: 6
upscaling_speed: 1.0
idle_timeout_minutes: 10
docker:
  image: rayproject/ray-ml:2.60.0-py312-gpu
  container_name: ray
  run_options: [--ulimit nofile=65536:65536]
provider:
  type: aws
  region: us-west-2
  availability_zone: us-west-2a, us-west-2b
  use_internal_ips: true
  cache_stopped_nodes: False
auth:
  ssh_user: ubuntu
  ssh_private_key: ~/.ssh/vision.pem
head_node_type: head
available_node_types:
  head:
    resources: {CPU: 0}
    node_config:
      InstanceType: m6i.xlarge
      ImageId: ami-0123456789abcdef0
      BlockDeviceMappings:
        - DeviceName: /dev/sda1
          Ebs: {VolumeSize: 140, VolumeType: gp3}
      SubnetIds: [subnet-0123456789abcdef0]
      KeyName: vision
  cpu:
    min_workers: 1
    max_workers: 4
    resources: {CPU: 8, fast_disk: 2}
    labels: {team: vision}
    node_config:
      InstanceType: m6i.2xlarge
      SubnetIds: [subnet-0123456789abcdef0]
      IamInstanceProfile: {Arn: "arn:aws:iam::123456789012:instance-profile/ray"}
      InstanceMarketOptions: {MarketType: spot, SpotOptions: {MaxPrice: 0.1}}
  gpu:
    max_workers: 10
    idle_timeout_s: 90
    resources: {}
    node_config:
      InstanceType: g6.xlarge
      SubnetIds: [subnet-0123456789abcdef0]
    worker_setup_commands: ["nvidia-smi"]
file_mounts: {/home/ubuntu/code: ./code, /data: /srv/data}
cluster_synced_files: []
file_mounts_sync_continuously: false
rsync_exclude: ["**/.git"]
initialization_commands: ["sudo sysctl -w vm.swappiness=0"]
setup_commands:
  - sudo apt-get install -y ffmpeg
  - pip install -U "ray[data,train]==2.60.0"
  - export WANDB_API_KEY=0123456789abcdef && wandb login $WANDB_API_KEY
head_setup_commands: [pip install jupyterlab]
worker_setup_commands: [echo worker]
head_start_ray_commands: [ray stop, ray start --head --port=6379]
worker_start_ray_commands: [ray stop, "ray start --address=$RAY_HEAD_IP:6379"]
"""

GCP = """\
cluster_name: t4
max_workers: 3
provider: {type: gcp, region: us-central1, availability_zone: us-central1-a, project_id: vision-123456}
auth: {ssh_user: ubuntu}
head_node_type: head
available_node_types:
  head:
    resources: {"CPU": 4}
    node_config:
      machineType: n1-standard-4
      disks:
        - {boot: true, autoDelete: true, type: PERSISTENT, initializeParams: {diskSizeGb: 60}}
  worker:
    min_workers: 0
    max_workers: 3
    resources: {"CPU": 8, "GPU": 1}
    node_config:
      machineType: n1-standard-8
      guestAccelerators:
        - {acceleratorType: projects/vision-123456/zones/us-central1-a/acceleratorTypes/nvidia-tesla-t4, acceleratorCount: 1}
      scheduling: [{preemptible: true}, {onHostMaintenance: TERMINATE}]
      serviceAccounts: [{email: a@b.iam.gserviceaccount.com, scopes: [cloud-platform]}]
"""

AZURE = """\
cluster_name: small
max_workers: 2
provider: {type: azure, location: westus2, resource_group: ray, subscription_id: 00000000-0000-0000-0000-000000000001}
auth: {ssh_user: ubuntu, ssh_private_key: ~/.ssh/id_rsa, ssh_public_key: ~/.ssh/id_rsa.pub}
head_node_type: head
available_node_types:
  head:
    resources: {CPU: 2}
    node_config: {azure_arm_parameters: {vmSize: Standard_D2s_v3, imagePublisher: microsoft-dsvm}}
  worker:
    resources: {CPU: 4}
    node_config: {azure_arm_parameters: {vmSize: Standard_D4s_v3, priority: Spot}}
"""

HOSTS = """\
cluster_name: lab
provider: {type: local, head_ip: 10.0.0.5, worker_ips: [10.0.0.6, 10.0.0.7]}
auth: {ssh_user: ray, ssh_private_key: ~/.ssh/lab}
max_workers: 2
setup_commands: [which ray || pip install ray]
file_mounts: {~/code: code}
"""
