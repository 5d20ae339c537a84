"""The operator's rules take what KubeRay's authors wrote and find what is planted, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.kuberay import clusters, crd, jobs, kueue, operator, pods, services
from tests.kuberay.examples import ABSENT, example, planted, samples
from tests.kuberay.operator import LONGEST, operator_faults

Changes = dict[str, Any]

HEAD = "spec.headGroupSpec"
GROUP = "spec.workerGroupSpecs[0]"
JOBS = "spec.rayClusterSpec"
JOBS_GROUP = f"{JOBS}.workerGroupSpecs[0]"
SERVES = "spec.rayClusterConfig"
SERVES_GROUP = f"{SERVES}.workerGroupSpecs[0]"
CRON = "spec.jobTemplate"
V2 = "RAY_enable_autoscaler_v2"
RULES = "spec.deletionStrategy.deletionRules"
OPTIONS = "spec.upgradeStrategy.clusterUpgradeOptions"
BOX = f"{GROUP}.template.spec.containers[0]"
HEAD_ENV = f"{HEAD}.template.spec.containers[0].env"
WORKERS = example("RayCluster")["spec"]["workerGroupSpecs"][0]
REDIS = {"redisAddress": "redis:6379"}

# What these manifests ask of the operator, it does not grant as it comes.
ASKING = {
    "ray-cluster.embedded-gcs-ft.yaml": "spec.gcsFaultToleranceOptions.backend: needs the gate GCSFaultToleranceEmbeddedStorage",
    "ray-cluster.historyserver.yaml": "spec.historyServerOptions: needs the gate RayClusterHistoryServer",
    "ray-cluster.mtls.yaml": "spec.tlsOptions: needs the gate RayClusterMTLS",
    # The server fills in 0 and 2147483647 before the operator looks, which nobody means who does not say it.
    "ray-job.interactive-mode.yaml": f"{JOBS_GROUP}: needs minReplicas and maxReplicas without autoscaling",
    "ray-service.high-throughput-gemma4.yaml": f"{SERVES_GROUP}: needs minReplicas and maxReplicas without autoscaling",
    "ray-service.high-throughput-llm.yaml": f"{SERVES_GROUP}: needs minReplicas and maxReplicas without autoscaling",
}


def no_autoscaler(root: str = "spec") -> Changes:
    """What turns it off in an example, and takes away what only it understands."""
    group = f"{root}.workerGroupSpecs[0]"
    absent = (f"{root}.autoscalerOptions", f"{group}.idleTimeoutSeconds", f"{group}.priority")
    return {f"{root}.enableInTreeAutoscaling": False, **dict.fromkeys(absent, ABSENT)}


def env(name: str, value: str = "x") -> Changes:
    """One more variable of the head's."""
    return {f"{HEAD_ENV}[2]": {"name": name, "value": value}}


def ends(policy: str, seconds: int, **condition: str) -> dict[str, Any]:
    return {"policy": policy, "condition": {"ttlSeconds": seconds, **(condition or {"jobStatus": "SUCCEEDED"})}}


SELECTS = {JOBS: ABSENT, "spec.deletionStrategy": ABSENT, "spec.clusterSelector": {"ray.io/cluster": "fleet"}}
SHUTS = {"spec.deletionStrategy": ABSENT, "spec.shutdownAfterJobFinishes": True}
QUEUED = {
    "metadata.labels": {"kueue.x-k8s.io/queue-name": "gpus"},
    "metadata.annotations": {"kueue.x-k8s.io/elastic-job": "true"},
}
LEGACY = {"spec.deletionStrategy": {"onSuccess": {"policy": "DeleteNone"}, "onFailure": {"policy": "DeleteSelf"}}}

# kind, changes, what is said
PLANTED: list[tuple[str, Changes, str]] = [
    # names and labels
    *(
        (kind, {"metadata.name": "f" * (n + 1)}, f"metadata.name: longer than {n} characters")
        for kind, n in LONGEST.items()
    ),
    (
        "RayJob",
        {"metadata.name": ABSENT, "metadata.generateName": "f" * 43},
        "metadata.name: longer than 47 characters",
    ),
    ("RayCluster", {"metadata.name": "1fleet"}, "metadata.name: '1fleet' is no DNS label of RFC 1035"),
    ("RayService", {"metadata.name": "fleet.a"}, "metadata.name: 'fleet.a' is no DNS label of RFC 1035"),
    (
        "RayCluster",
        {'metadata.labels."ray.io/cluster"': "x"},
        "metadata.labels.ray.io/cluster: labels under ray.io/ are the operator's",
    ),
    (
        "RayCluster",
        {f'{GROUP}.labels."ray.io/group"': "x"},
        f"{GROUP}.labels.ray.io/group: labels under ray.io/ are the operator's",
    ),
    (
        "RayCluster",
        {f'{HEAD}.template.metadata.labels."ray.io/identifier"': "x"},
        f"{HEAD}.template.metadata.labels.ray.io/identifier: labels under ray.io/ are the operator's",
    ),
    # groups
    ("RayCluster", {f"{HEAD}.template.spec": {"containers": []}}, f"{HEAD}: needs a container"),
    ("RayCluster", {f"{GROUP}.template.spec": ABSENT}, f"{GROUP}: needs a container"),
    ("RayCluster", {f"{GROUP}.groupName": "GPU"}, f"{GROUP}.groupName: 'GPU' is no DNS label of RFC 1123"),
    ("RayCluster", {f"{GROUP}.groupName": "g" * 64}, f"{GROUP}.groupName: '{'g' * 64}' is no DNS label of RFC 1123"),
    ("RayCluster", {f"{GROUP}.groupName": "headgroup"}, "spec.workerGroupSpecs: 2 groups are called 'headgroup'"),
    (
        "RayCluster",
        {"spec.workerGroupSpecs[1]": WORKERS},
        "spec.workerGroupSpecs: 2 groups are called 'gpu'",
    ),
    *(
        (
            "RayCluster",
            {f"{group}.rayStartParams.{name}": "1"},
            f"{group}.resources: set together with rayStartParams {name}",
        )
        for group in (HEAD, GROUP)
        for name in ("num-cpus", "num-gpus", "memory", "resources")
    ),
    ("RayCluster", {f"{GROUP}.resources": {"cpu": "4"}}, f"{GROUP}.resources.cpu: must be written CPU"),
    ("RayCluster", {f"{GROUP}.resources": {"Memory": "4Gi"}}, f"{GROUP}.resources.Memory: must be written memory"),
    ("RayCluster", {f"{GROUP}.resources.a'b": "1"}, f"{GROUP}.resources.a'b: the quote ends what the shell reads"),
    ("RayCluster", {f"{GROUP}.resources.memory": "8 GiB"}, f"{GROUP}.resources.memory: '8 GiB' is no quantity"),
    ("RayCluster", {f"{GROUP}.resources.CPU": "500m"}, f"{GROUP}.resources.CPU: '500m' must be whole"),
    ("RayCluster", {f"{GROUP}.resources.tokens": "0.5"}, f"{GROUP}.resources.tokens: '0.5' must be whole"),
    (
        "RayCluster",
        {f"{GROUP}.rayStartParams.labels": "a=b"},
        f"{GROUP}.rayStartParams.labels: write the group's labels instead",
    ),
    ("RayCluster", {f"{GROUP}.labels.a b": "x"}, f"{GROUP}.labels.a b: 'a b' is no name of a label"),
    ("RayCluster", {f"{HEAD}.labels.zone": "a b"}, f"{HEAD}.labels.zone: 'a b' is no value of a label"),
    (
        "RayCluster",
        {**no_autoscaler(), f"{GROUP}.maxReplicas": ABSENT},
        f"{GROUP}: needs minReplicas and maxReplicas without autoscaling",
    ),
    ("RayCluster", {f"{GROUP}.minReplicas": -1}, f"{GROUP}: minReplicas and maxReplicas must not be negative"),
    ("RayCluster", {f"{GROUP}.minReplicas": 5}, f"{GROUP}: minReplicas 5 is more than maxReplicas 4"),
    ("RayCluster", {f"{GROUP}.replicas": 5}, f"{GROUP}.replicas: 5 is not between 1 and 4"),
    ("RayCluster", {f"{GROUP}.replicas": 0}, f"{GROUP}.replicas: 0 is not between 1 and 4"),
    ("RayCluster", {f"{GROUP}.suspend": True}, f"{GROUP}.suspend: not with autoscaling"),
    # the autoscaler
    ("RayCluster", env(V2, "1"), f"{HEAD_ENV}: {V2} besides autoscalerOptions.version"),
    ("RayCluster", {**no_autoscaler(), **env(V2, "true")}, f"{HEAD_ENV}: {V2} without enableInTreeAutoscaling"),
    *(
        (
            "RayCluster",
            {f"{group}.template.spec.restartPolicy": "Always"},
            f"{group}.template.spec.restartPolicy: must be Never or unset with version v2",
        )
        for group in (HEAD, GROUP)
    ),
    (
        "RayCluster",
        {"spec.autoscalerOptions.version": ABSENT, f"{GROUP}.priority": 0},
        f"{GROUP}.idleTimeoutSeconds: needs autoscalerOptions.version v2",
    ),
    (
        "RayCluster",
        {"spec.autoscalerOptions.version": "v1", f"{GROUP}.idleTimeoutSeconds": ABSENT},
        f"{GROUP}.priority: needs autoscalerOptions.version v2",
    ),
    ("RayCluster", {"spec.rayVersion": "2.55.1"}, f"{GROUP}.priority: needs rayVersion 2.56.0 or later"),
    ("RayCluster", {f"{GROUP}.idleTimeoutSeconds": -1}, f"{GROUP}.idleTimeoutSeconds: must not be negative"),
    (
        "RayCluster",
        {"spec.autoscalerOptions.idleTimeoutSeconds": -1},
        "spec.autoscalerOptions.idleTimeoutSeconds: must not be negative",
    ),
    (
        "RayCluster",
        {"spec.autoscalerOptions.env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD"}]},
        "spec.autoscalerOptions.env: KUBERAY_GEN_AUTOSCALER_START_CMD is the operator's",
    ),
    # where the head keeps its state
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": REDIS, "metadata.annotations": {"ray.io/ft-enabled": "true"}},
        "spec.gcsFaultToleranceOptions: set besides the annotation ray.io/ft-enabled",
    ),
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": REDIS, "metadata.annotations": {"ray.io/external-storage-namespace": "x"}},
        "spec.gcsFaultToleranceOptions.externalStorageNamespace: is an annotation, too",
    ),
    *(
        (
            "RayCluster",
            {**changes, **env("RAY_REDIS_ADDRESS")},
            f"{HEAD_ENV}: RAY_REDIS_ADDRESS belongs into gcsFaultToleranceOptions.redisAddress",
        )
        for changes in ({}, {"spec.gcsFaultToleranceOptions": REDIS})
    ),
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": REDIS, **env("REDIS_PASSWORD")},
        f"{HEAD_ENV}: REDIS_PASSWORD belongs into gcsFaultToleranceOptions.redisPassword",
    ),
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": REDIS, f"{HEAD}.rayStartParams.redis-password": "x"},
        f"{HEAD}.rayStartParams.redis-password: belongs into gcsFaultToleranceOptions.redisPassword",
    ),
    (
        "RayCluster",
        env("REDIS_USERNAME"),
        f"{HEAD}: a user of Redis belongs into gcsFaultToleranceOptions.redisUsername",
    ),
    (
        "RayCluster",
        {f"{HEAD}.rayStartParams.redis-username": "x"},
        f"{HEAD}: a user of Redis belongs into gcsFaultToleranceOptions.redisUsername",
    ),
    ("RayCluster", {"spec.gcsFaultToleranceOptions": {}}, "spec.gcsFaultToleranceOptions: needs redisAddress"),
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": {**REDIS, "storage": {}}},
        "spec.gcsFaultToleranceOptions.storage: only with backend rocksdb",
    ),
    (
        "RayCluster",
        {"spec.gcsFaultToleranceOptions": {"backend": "rocksdb"}},
        "spec.gcsFaultToleranceOptions.backend: needs the gate GCSFaultToleranceEmbeddedStorage",
    ),
    # who may talk to it
    *(
        (
            "RayCluster",
            {"spec.rayVersion": version, f"{GROUP}.priority": 0},
            "spec.authOptions.mode: needs rayVersion 2.52.0 or later",
        )
        for version in ("2.51.9", "2.9.0", "nightly", ABSENT)
    ),
    (
        "RayCluster",
        {"spec.rayVersion": "2.54.0", f"{GROUP}.priority": 0, "spec.authOptions.enableK8sTokenAuth": True},
        "spec.authOptions.enableK8sTokenAuth: needs rayVersion 2.55.0 or later",
    ),
    (
        "RayCluster",
        {"spec.authOptions": {"enableK8sTokenAuth": True}},
        "spec.authOptions.enableK8sTokenAuth: needs mode token",
    ),
    (
        "RayCluster",
        {"spec.authOptions": {"mode": "token", "enableK8sTokenAuth": True, "secretName": "s"}},
        "spec.authOptions.secretName: not together with enableK8sTokenAuth",
    ),
    ("RayCluster", {"spec.networkPolicy": {}}, "spec.networkPolicy: needs the gate RayClusterNetworkPolicy"),
    ("RayCluster", {"spec.tlsOptions": {"enabled": True}}, "spec.tlsOptions: needs the gate RayClusterMTLS"),
    # jobs: where they run
    ("RayJob", {JOBS: ABSENT}, "spec: needs rayClusterSpec or clusterSelector"),
    ("RayJob", {**SELECTS, "spec.clusterSelector": {"name": "fleet"}}, "spec.clusterSelector: needs ray.io/cluster"),
    (
        "RayJob",
        {**SELECTS, "spec.suspend": True, "spec.shutdownAfterJobFinishes": True},
        "spec.suspend: not with clusterSelector",
    ),
    ("RayJob", {**SELECTS, "spec.backoffLimit": 1}, "spec.backoffLimit: not with clusterSelector"),
    (
        "RayJob",
        {**SELECTS, "spec.submissionMode": "SidecarMode"},
        "spec.submissionMode: SidecarMode not with clusterSelector",
    ),
    (
        "RayJob",
        {f"{JOBS}.authOptions.enableK8sTokenAuth": True},
        f"{JOBS}.authOptions.enableK8sTokenAuth: not in a RayJob",
    ),
    ("RayJob", {f"{JOBS}.upgradeStrategy.type": "Recreate"}, f"{JOBS}.upgradeStrategy: only in a bare RayCluster"),
    ("RayJob", {f"{JOBS_GROUP}.replicas": 9}, f"{JOBS_GROUP}.replicas: 9 is not between 1 and 4"),
    # jobs: how they are submitted
    (
        "RayJob",
        {"spec.submissionMode": "SidecarMode", "spec.submitterConfig": {"backoffLimit": 1}},
        "spec.submitterConfig: not in SidecarMode",
    ),
    (
        "RayJob",
        {"spec.submissionMode": "SidecarMode", "spec.submitterPodTemplate": {"spec": {"containers": []}}},
        "spec.submitterPodTemplate: not in SidecarMode",
    ),
    (
        "RayJob",
        {
            **no_autoscaler(JOBS),
            "spec.submissionMode": "SidecarMode",
            f"{JOBS}.headGroupSpec.template.spec.restartPolicy": "Always",
        },
        f"{JOBS}.headGroupSpec.template.spec.restartPolicy: must be Never or unset in SidecarMode",
    ),
    (
        "RayJob",
        {"spec.submissionMode": "InteractiveMode", "spec.backoffLimit": 1},
        "spec.backoffLimit: not in InteractiveMode",
    ),
    ("RayJob", {"spec.runtimeEnvYAML": "a: ["}, "spec.runtimeEnvYAML: is no YAML"),
    ("RayJob", {"spec.runtimeEnvYAML": "- a"}, "spec.runtimeEnvYAML: must be an object"),
    ("RayJob", {"spec.activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds: must be positive"),
    ("RayJob", {"spec.backoffLimit": -1}, "spec.backoffLimit: must not be negative"),
    ("RayJob", {**SHUTS, "spec.ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished: must not be negative"),
    # jobs: what is deleted after them
    ("RayJob", {"spec.shutdownAfterJobFinishes": True}, f"{RULES}: not with shutdownAfterJobFinishes"),
    ("RayJob", {"spec.suspend": True}, "spec.suspend: needs shutdownAfterJobFinishes"),
    ("RayJob", {"spec.ttlSecondsAfterFinished": 60}, "spec.ttlSecondsAfterFinished: needs shutdownAfterJobFinishes"),
    ("RayJob", {f"{RULES}[0].policy": "DeleteWorkers"}, f"{RULES}[0].policy: DeleteWorkers not with autoscaling"),
    (
        "RayJob",
        {**SELECTS, "spec.deletionStrategy": {"deletionRules": [ends("DeleteCluster", 0)]}},
        f"{RULES}[0].policy: DeleteCluster not with clusterSelector",
    ),
    (
        "RayJob",
        {**LEGACY, "spec.deletionStrategy.onSuccess.policy": "DeleteWorkers"},
        "spec.deletionStrategy.onSuccess.policy: DeleteWorkers not with autoscaling",
    ),
    ("RayJob", {**LEGACY, "spec.deletionStrategy.onFailure": {}}, "spec.deletionStrategy.onFailure: lacks policy"),
    (
        "RayJob",
        {**LEGACY, "spec.shutdownAfterJobFinishes": True},
        "spec.deletionStrategy.onSuccess.policy: DeleteNone not with shutdownAfterJobFinishes",
    ),
    ("RayJob", {f"{RULES}[1]": ends("DeleteCluster", 90)}, f"{RULES}: 2 rules of DeleteCluster after SUCCEEDED"),
    (
        "RayJob",
        {f"{RULES}[1]": ends("DeleteSelf", 30)},
        f"{RULES}: DeleteSelf 30 s after SUCCEEDED, before DeleteCluster 60 s",
    ),
    (
        "RayJob",
        {
            RULES: [
                ends(policy, seconds, jobDeploymentStatus="Failed")
                for policy, seconds in (("DeleteSelf", 1), ("DeleteCluster", 2))
            ]
        },
        f"{RULES}: DeleteSelf 1 s after deployment Failed, before DeleteCluster 2 s",
    ),
    # services
    ("RayService", {"spec.serveConfigV2": "a: ["}, "spec.serveConfigV2: is no YAML"),
    ("RayService", {"spec.serveConfigV2": "import_path: app.main"}, "spec.serveConfigV2: must have applications"),
    (
        "RayService",
        {f"{SERVES}.headGroupSpec.headService": {"metadata": {"name": "x"}}},
        f"{SERVES}.headGroupSpec.headService.metadata.name: must not be set",
    ),
    (
        "RayService",
        {f"{SERVES}.authOptions.enableK8sTokenAuth": True},
        f"{SERVES}.authOptions.enableK8sTokenAuth: not in a RayService",
    ),
    ("RayService", {f"{SERVES}.upgradeStrategy.type": "None"}, f"{SERVES}.upgradeStrategy: only in a bare RayCluster"),
    (
        "RayService",
        {"spec.upgradeStrategy.type": "Recreate"},
        "spec.upgradeStrategy.type: 'Recreate' is none of NewClusterWithIncrementalUpgrade, NewCluster, None",
    ),
    (
        "RayService",
        no_autoscaler(SERVES),
        "spec.upgradeStrategy.type: NewClusterWithIncrementalUpgrade needs enableInTreeAutoscaling",
    ),
    (
        "RayService",
        {OPTIONS: ABSENT},
        "spec.upgradeStrategy: NewClusterWithIncrementalUpgrade needs clusterUpgradeOptions",
    ),
    ("RayService", {f"{OPTIONS}.maxSurgePercent": 101}, f"{OPTIONS}.maxSurgePercent: must be between 0 and 100"),
    ("RayService", {f"{OPTIONS}.stepSizePercent": -1}, f"{OPTIONS}.stepSizePercent: must be between 0 and 100"),
    (
        "RayService",
        {f"{OPTIONS}.maxSurgePercent": 10},
        f"{OPTIONS}.stepSizePercent: must not be more than maxSurgePercent",
    ),
    ("RayService", {f"{OPTIONS}.intervalSeconds": 0}, f"{OPTIONS}.intervalSeconds: must be positive"),
    ("RayService", {f"{OPTIONS}.gatewayClassName": ""}, f"{OPTIONS}.gatewayClassName: must be said"),
    (
        "RayService",
        {f"{SERVES}.rayVersion": "2.50.0", f"{SERVES_GROUP}.priority": 0},
        f"{SERVES}.authOptions.mode: needs rayVersion 2.52.0 or later",
    ),
    # schedules
    ("RayCronJob", {"spec.schedule": "TZ=UTC 0 0 * * *"}, "spec.schedule: write timeZone instead of TZ"),
    ("RayCronJob", {"spec.schedule": "every day"}, "spec.schedule: 'every day' is no schedule"),
    *(
        ("RayCronJob", {"spec.timeZone": zone}, f"spec.timeZone: {zone!r} is no time zone")
        for zone in ("Europe/Berlinn", "Europe", "../etc")
    ),
    ("RayCronJob", {f"{CRON}.rayClusterSpec": ABSENT}, f"{CRON}: needs rayClusterSpec or clusterSelector"),
    (
        "RayCronJob",
        {f"{CRON}.rayClusterSpec.workerGroupSpecs[0].replicas": 9},
        f"{CRON}.rayClusterSpec.workerGroupSpecs[0].replicas: 9 is not between 1 and 4",
    ),
    # queues
    ("RayCluster", {**QUEUED, "spec.suspend": True}, "spec.suspend: Kueue writes it"),
    ("RayJob", QUEUED, "spec.shutdownAfterJobFinishes: must be true in a queue of Kueue"),
    (
        "RayJob",
        {**SELECTS, **QUEUED, "spec.shutdownAfterJobFinishes": True},
        "spec.clusterSelector: Kueue admits jobs that bring their cluster",
    ),
    *(
        (
            kind,
            {**changes, **QUEUED, "metadata.annotations": {}},
            f"{root}.enableInTreeAutoscaling: needs the annotation kueue.x-k8s.io/elastic-job in a queue of Kueue",
        )
        for kind, root, changes in (("RayCluster", "spec", {}), ("RayJob", JOBS, SHUTS), ("RayService", SERVES, {}))
    ),
    (
        "RayCluster",
        {**QUEUED, f"{GROUP}.groupName": "head"},
        f"{GROUP}.groupName: 'head' is Kueue's name of the head's group",
    ),
    (
        "RayCluster",
        {**QUEUED, "spec.workerGroupSpecs": [{**WORKERS, "groupName": f"gpu-{n}"} for n in range(8)]},
        "spec.workerGroupSpecs: more than 7 in a queue of Kueue",
    ),
    # pods
    (
        "RayCluster",
        {f"{GROUP}.template.metadata.labels.app": "a b"},
        f"{GROUP}.template.metadata.labels.app: 'a b' is no value of a label",
    ),
    (
        "RayCluster",
        {**no_autoscaler(), f"{GROUP}.template.spec.restartPolicy": "Sometimes"},
        f"{GROUP}.template.spec.restartPolicy: 'Sometimes' is none of Always, OnFailure, Never",
    ),
    ("RayCluster", {f"{BOX}.name": "Ray_Worker"}, f"{GROUP}.template.spec: 'Ray_Worker' is no name of a container"),
    (
        "RayCluster",
        {f"{GROUP}.template.spec.volumes[1]": {"name": "A"}},
        f"{GROUP}.template.spec: 'A' is no name of a volume",
    ),
    (
        "RayCluster",
        {f"{GROUP}.template.spec.initContainers": [{"name": "ray-worker"}]},
        f"{GROUP}.template.spec: 2 containers are called 'ray-worker'",
    ),
    (
        "RayCluster",
        {f"{BOX}.ports[1].name": "dashboard-metrics"},
        f"{BOX}.ports: 'dashboard-metrics' is longer than 15 characters",
    ),
    ("RayCluster", {f"{BOX}.ports[1].name": "gcs"}, f"{BOX}.ports: 2 are called 'gcs'"),
    ("RayCluster", {f"{BOX}.volumeMounts[0].name": "dat"}, f"{BOX}.volumeMounts[0]: no volume is called 'dat'"),
    (
        "RayCluster",
        {f"{BOX}.resources.requests.memory": "17Gi"},
        f"{BOX}.resources.requests.memory: 17Gi is not within the limit 16Gi",
    ),
    (
        "RayCluster",
        {f'{BOX}.resources.limits."nvidia.com/gpu"': ABSENT},
        f"{BOX}.resources.requests.nvidia.com/gpu: needs the same limit",
    ),
    (
        "RayCluster",
        {f'{BOX}.resources.limits."nvidia.com/gpu"': 2},
        f"{BOX}.resources.requests.nvidia.com/gpu: 1 is not within the limit 2",
    ),
    ("RayCluster", {f"{BOX}.env[1].value": "x"}, f"{BOX}.env[1]: has value and valueFrom"),
    (
        "RayJob",
        {"spec.submitterPodTemplate": {"spec": {"containers": [{"name": "A"}]}}},
        "spec.submitterPodTemplate.spec: 'A' is no name of a container",
    ),
]


@pytest.mark.parametrize("name", sorted(samples()))
def test_each_manifest_of_kuberays_authors_obeys_the_rules(name: str) -> None:
    found = [fault for document in samples()[name] for fault in operator_faults(document)]
    assert found == ([ASKING[name]] if name in ASKING else [])


@pytest.mark.parametrize("kind", crd.KINDS)
def test_the_example_of_each_kind_obeys_the_rules(kind: str) -> None:
    assert operator_faults(example(kind)) == []


@pytest.mark.parametrize(("kind", "changes", "said"), PLANTED, ids=[f"{kind} {said:.60}" for kind, _, said in PLANTED])
def test_a_planted_fault_is_found_and_nothing_else_and_the_server_sees_none(
    kind: str, changes: Changes, said: str
) -> None:
    document = planted(kind, changes)
    assert operator_faults(document) == [said]
    assert crd.faults(document) == []


def test_every_rule_has_a_fault_planted() -> None:
    checks = [check for kind, changes, _ in PLANTED for check in operator.checks(planted(kind, changes))]
    broken = {rule for rule, about in checks if list(rule(*about))}
    every: set[Callable[..., Any]] = {
        *operator.RULES, *clusters.RULES, *jobs.RULES, *jobs.SCHEDULE_RULES, *services.RULES, *pods.RULES, *kueue.RULES
    }  # fmt: skip
    assert broken == every


def test_every_rule_is_a_sentence() -> None:
    for rule, _ in (check for kind in crd.KINDS for check in operator.checks(example(kind))):
        assert (rule.__doc__ or "").endswith(".")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("RayCluster", no_autoscaler()),
        ("RayCluster", {f"{GROUP}.minReplicas": ABSENT, f"{GROUP}.maxReplicas": ABSENT}),  # the autoscaler moves between
        ("RayCluster", {f"{GROUP}.template.spec.restartPolicy": "Never"}),
        ("RayCluster", {"spec.gcsFaultToleranceOptions": REDIS}),
        ("RayCluster", {"metadata.annotations": {"ray.io/ft-enabled": "true"}, **env("RAY_REDIS_ADDRESS")}),
        ("RayCluster", {"spec.authOptions": {"mode": "disabled"}, "spec.rayVersion": "2.56.0"}),
        ("RayCluster", {"spec.authOptions.enableK8sTokenAuth": True}),
        ("RayCluster", {"spec.upgradeStrategy.type": "Recreate"}),
        ("RayCluster", QUEUED),
        ("RayCluster", {**no_autoscaler(), **QUEUED, "metadata.annotations": {}}),
        ("RayJob", {**SHUTS, **QUEUED}),
        ("RayService", QUEUED),
        ("RayCluster", {f"{BOX}.resources.requests.cpu": "500m"}),
        ("RayCluster", {f"{GROUP}.resources.tokens": "1e3"}),
        ("RayJob", SELECTS),
        ("RayJob", {**SHUTS, "spec.ttlSecondsAfterFinished": 60, "spec.backoffLimit": 2, "spec.suspend": True}),
        ("RayJob", LEGACY),
        ("RayJob", {**no_autoscaler(JOBS), f"{RULES}[1]": ends("DeleteWorkers", 30)}),
        ("RayJob", {f"{RULES}[1]": ends("DeleteSelf", 60)}),
        ("RayJob", {f"{RULES}[1]": ends("DeleteCluster", 5, jobStatus="FAILED")}),
        ("RayJob", {"spec.submissionMode": "SidecarMode"}),
        ("RayService", {**no_autoscaler(SERVES), "spec.upgradeStrategy": ABSENT}),
        ("RayService", {"spec.serveConfigV2": ABSENT}),
    ],
)  # fmt: skip
def test_what_the_operator_takes_is_no_fault(kind: str, changes: Changes) -> None:
    assert operator_faults(planted(kind, changes)) == []


@pytest.mark.parametrize(
    "text", ["* * * * *", "*/15 0-6,22 1,15 jan-MAR ?", "0 9-17/2 * * SUN,6", "@daily", "@every 1h30m"]
)
def test_a_schedule_is_one(text: str) -> None:
    assert operator_faults(planted("RayCronJob", {"spec.schedule": text})) == []


@pytest.mark.parametrize(
    "text", ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "9-5 * * * *",
             "*/0 * * * *", "a * * * *", "* * * * JAN", "@never", "@every day", "1-2-3 * * * *", "- * * * *"]
)  # fmt: skip
def test_no_schedule_is_told_so(text: str) -> None:
    assert operator_faults(planted("RayCronJob", {"spec.schedule": text})) == [
        f"spec.schedule: {text!r} is no schedule"
    ]
