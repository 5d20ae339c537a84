"""Specs that must parse: the smallest and the full example of the command-line contract."""

SMALLEST = """\
cluster: demo
provider: local
pools:
  - {name: cpu, min: 0, max: 3, resources: {CPU: 1}}
"""

FULL = """\
cluster: vision
provider: {aws: {region: us-east-1, vpc: default}}
auth: {user: ubuntu, key: ~/.ssh/id_ed25519}
head: {instance: m6i.large, disk: 100GiB}
engine: {ray: {version: "2.60.0", extras: [data, train, tune, serve]}}      # or: engine: none
pools:
  - name: gpu
    instances: [g6.xlarge, g5.xlarge]          # or gpu: {name: L4, count: 1}; cheapest that fits and is to be had
    market: [spot, on-demand]                  # tried in this order
    zones: [us-east-1a, us-east-1b]
    min: 0
    max: 20
    idle_timeout: 5m
    orphan_timeout: 15m
    labels: {team: vision}
setup: ["sudo apt-get install -y ffmpeg"]
files: [{from: ./data, to: /data}]
env: {HF_HOME: /data/hf}
limits: {nodes: 30, cost_per_hour: 40, budget: {per_day: 500}}
queue: {fair_share: user, preemption: true}
"""
