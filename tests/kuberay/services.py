"""The operator's rules of a RayService's spec. Each yields `path: sentence`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

STRATEGIES = ("NewClusterWithIncrementalUpgrade", "NewCluster", "None")
INCREMENTAL = STRATEGIES[0]
CONFIG = "spec.rayClusterConfig"


def _applications(spec: dict[str, Any]) -> Iterator[str]:
    """serveConfigV2 is text, and that text is YAML of an object with applications."""
    try:
        config = yaml.safe_load(spec.get("serveConfigV2") or "applications: []")
    except yaml.YAMLError:
        yield "spec.serveConfigV2: is no YAML"
        return
    if not isinstance(config, dict) or "applications" not in config:
        yield "spec.serveConfigV2: must have applications"


def _cluster(spec: dict[str, Any]) -> Iterator[str]:
    """A service makes clusters under names of its own, upgrades them in its own way, and takes no tokens of Kubernetes."""
    config = spec["rayClusterConfig"]
    service = (config.get("headGroupSpec") or {}).get("headService") or {}
    if (service.get("metadata") or {}).get("name"):
        yield f"{CONFIG}.headGroupSpec.headService.metadata.name: must not be set"
    if (config.get("authOptions") or {}).get("enableK8sTokenAuth"):
        yield f"{CONFIG}.authOptions.enableK8sTokenAuth: not in a RayService"
    if (config.get("upgradeStrategy") or {}).get("type"):
        yield f"{CONFIG}.upgradeStrategy: only in a bare RayCluster"


def _strategy(spec: dict[str, Any]) -> Iterator[str]:
    """There are three ways to upgrade."""
    kind = (spec.get("upgradeStrategy") or {}).get("type", "NewCluster")
    if kind not in STRATEGIES:
        yield f"spec.upgradeStrategy.type: {kind!r} is none of {', '.join(STRATEGIES)}"


def _incremental(spec: dict[str, Any]) -> Iterator[str]:
    """An upgrade in steps needs an autoscaler that makes room, a gateway that splits requests, and steps within its surge."""
    strategy = spec.get("upgradeStrategy") or {}
    if strategy.get("type") != INCREMENTAL:
        return
    path, options = "spec.upgradeStrategy.clusterUpgradeOptions", strategy.get("clusterUpgradeOptions")
    if not spec["rayClusterConfig"].get("enableInTreeAutoscaling"):
        yield f"spec.upgradeStrategy.type: {INCREMENTAL} needs enableInTreeAutoscaling"
    if options is None:
        yield f"spec.upgradeStrategy: {INCREMENTAL} needs clusterUpgradeOptions"
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not 0 <= surge <= 100:
        yield f"{path}.maxSurgePercent: must be between 0 and 100"
    if not 0 <= step <= 100:
        yield f"{path}.stepSizePercent: must be between 0 and 100"
    elif step > surge:
        yield f"{path}.stepSizePercent: must not be more than maxSurgePercent"
    if options.get("intervalSeconds", 0) <= 0:
        yield f"{path}.intervalSeconds: must be positive"
    if not options.get("gatewayClassName"):
        yield f"{path}.gatewayClassName: must be said"


RULES: tuple[Callable[[dict[str, Any]], Iterator[str]], ...] = (_applications, _cluster, _strategy, _incremental)
