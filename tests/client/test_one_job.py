"""What `run` makes of a spec, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.client.run.one_job import for_one_job, what_if_nobody_is_left
from clusterctl.client.specfile import read_places
from clusterctl.spec.to_core import core_lifetime

SPEC = "cluster: demo\nprovider: {PROVIDER}\npools: [{name: a, gpu: {name: A100}}]\n"


@pytest.mark.parametrize(
    "cloud", ["aws: {region: us-east-1}", "gcp: {region: us-central1}", "azure: {region: westeurope}"]
)
def test_a_cluster_of_one_job_ends_itself_on_clouds_as_well_and_what_it_costs_then_is_said(
    tmp_path: Path, cloud: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SPEC.replace("PROVIDER", cloud))
    (one,) = for_one_job(read_places(path), "").each
    lifetime = core_lifetime(one.spec)
    assert (lifetime.after_last_job, lifetime.idle, lifetime.at) == (600.0, 1800.0, None)
    said = what_if_nobody_is_left(one)
    assert said.startswith("should this command or its machine die, the cluster ends itself 10 min after its last job")
    assert "what stays then and is billed until `clusterctl down`: its head's disk of 20 GiB" in said
