"""The clouds, in the order in which people are told of them."""

from __future__ import annotations

from clusterctl.spec.providers import aws, azure, gcp

CLOUDS = (aws.KIND, gcp.KIND, azure.KIND)
