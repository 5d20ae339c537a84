"""What nodes are told of their mounts: how each scheme is mounted, where it goes on which provider, and what replaces nodes."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.spec.hash import head_hash, pool_hash
from clusterctl.spec.load import parse_spec
from clusterctl.spec.mounts.documents import VolumePlaces, mount_documents
from clusterctl.spec.providers.storage import SCHEMES
from clusterctl.spec.to_core import pool_requests

PLACES = VolumePlaces("/home/me/volumes/a", "/home/me/a/volumes")


def told(mount: str, provider: str = "ssh", pool: str = "hosts: [h]") -> dict[str, Any]:
    spec = parse_spec(f"cluster: a\nprovider: {provider}\npools: [{{name: x, {pool}}}]\nmounts: [{mount}]")
    (found,) = mount_documents(spec, spec.pools[0], PLACES)
    return found


def on_aws(mount: str) -> dict[str, Any]:
    return told(mount, "{aws: {region: eu-west-1}}", "instances: [m5.large]")


def test_file_systems_are_mounted_as_their_own_pages_advise() -> None:
    nfs = told("{from: 'nfs://10.0.0.5:2050/a/b', to: /d, mode: read-only, options: [vers=4.1]}")["file_system"]
    assert (nfs["type"], nfs["source"]) == ("nfs", "10.0.0.5:/a/b")
    assert nfs["options"] == ["ro", "nosuid", "nodev", "port=2050", "vers=4.1"]
    efs = on_aws("{from: 'efs://fs-0123456789abcdef0/x', to: /d}")["file_system"]
    assert efs["source"] == "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/x" and "noresvport" in efs["options"]
    lustre = on_aws("{from: 'fsx://fs-0123456789abcdef0/fsx', to: /d}")["file_system"]
    assert (
        lustre["source"] == "fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp:/fsx" and lustre["type"] == "lustre"
    )
    smb = told("{from: 'azurefiles+smb://acct/share', to: /d}")["file_system"]
    assert (smb["source"], smb["secret"]) == ("//acct.file.core.windows.net/share", ["acct", "AZURE_STORAGE_KEY"])


def test_a_bucket_is_shown_by_the_first_program_that_can_do_what_is_asked_and_no_key_is_an_argument() -> None:
    ways = on_aws("{from: 's3://bkt/p', to: /d}")["ways"]
    assert [way["program"] for way in ways] == ["mount-s3", "rclone"]
    assert ways[0]["argv"] == [
        "mount-s3", "bkt", "{to}", "--foreground", "--read-only", "--prefix", "p/", "--region", "eu-west-1"
    ]  # fmt: skip
    (only,) = told("{from: 's3://bkt', to: /d, mode: cached, cache: 2GiB, endpoint: 'http://10.0.0.9:9000'}")["ways"]
    assert only["argv"][-4:] == ["--vfs-cache-max-size", "2048M", "--vfs-write-back", "0s"] and only["dirty"]
    assert only["env"]["RCLONE_CONFIG_BUCKET_ENDPOINT"] == "http://10.0.0.9:9000"
    for scheme, program in (("gs://bkt", "gcsfuse"), ("az://acct/box/p", "blobfuse2")):
        assert [way["program"] for way in told(f"{{from: '{scheme}', to: /d}}")["ways"]] == [program, "rclone"]


def test_the_same_words_lead_to_a_place_that_each_provider_has() -> None:
    here = told("{volume: work, to: /w, keep: true}", "local", "max: 1")
    assert here["below"] and here["directory"] == "/home/me/volumes/a/work"
    assert told("{volume: work, to: /w}", "local", "max: 1")["directory"] == "/home/me/a/volumes/work"
    assert told("{volume: work, to: /w}", "docker", "max: 1")["given"]
    assert (
        on_aws("{from: 'nfs://10.0.0.5/x', to: /home}")["over"] and not told("{from: 'nfs://h/x', to: /home}")["over"]
    )


def test_an_engine_of_containers_gets_volumes_and_what_it_mounts_itself() -> None:
    text = (
        "cluster: a\nprovider: docker\npools: [{name: x, mounts: [{volume: work, to: /w}]}]\n"
        "mounts: [{from: 'nfs://10.0.0.5/x', to: /d, mode: read-only}]"
    )
    requests = pool_requests(parse_spec(text))
    assert [m["to"] for m in requests["head"]["mounts"]] == ["/d"]
    nfs, work = requests["x"]["mounts"]
    assert nfs["file_system"]["source"] == "10.0.0.5:/x" and nfs["read_only"]
    assert (work["volume"], work["keep"]) == ("work", False)


def test_another_mount_needs_another_node() -> None:
    plain = parse_spec("cluster: a\nprovider: ssh\npools: [{name: x, hosts: [h]}]")
    mounted = parse_spec(
        "cluster: a\nprovider: ssh\npools: [{name: x, hosts: [h]}]\nmounts: [{from: 'nfs://h/x', to: /d}]"
    )
    assert pool_hash(plain, plain.pools[0]) != pool_hash(mounted, mounted.pools[0])
    assert head_hash(plain) != head_hash(mounted)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_example_of_every_scheme_is_one(name: str) -> None:
    scheme = SCHEMES[name]
    provider = {"aws": "{aws: {region: us-east-1}}", "gcp": "{gcp: {region: us-central1}}"}.get(scheme.cloud, "ssh")
    if scheme.cloud == "azure":
        provider = "{azure: {region: eastus}}"
    pool = "hosts: [h]" if provider == "ssh" else "gpu: {name: L4}"
    found = told(f"{{from: '{scheme.example}', to: /d}}", provider, pool)
    assert ("file_system" in found) != ("ways" in found)
