"""Storage that a spec can mount: how each scheme of `mounts` is written, and what a node runs to have it.

What is said here of clouds and of programs is all that anybody has to know of them: a node gets a command and its environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MIB = 2**20
DEFAULT_CACHE = 10 * 2**30  # bytes of a node's disk
SAFE = ("nosuid", "nodev")  # nothing on shared storage gains rights or is a device


@dataclass(frozen=True)
class Wanted:
    """One mount, taken apart: `host` and `path` of its address (`path` without "/" at its ends), and the keys beside it.
    `cache` is bytes, 0 for none."""

    host: str
    path: str
    mode: Literal["read-only", "read-write", "cached"]
    options: Sequence[str] = ()
    cache: int = 0
    endpoint: str = ""
    region: str = ""


@dataclass(frozen=True)
class NetworkFile:
    """What `mount -t` is told. `secret`: (user, variable of the environment with the password), "" for none."""

    type: str
    source: str
    options: Sequence[str]
    package: str
    secret: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Way:
    """A program that shows a bucket as a directory. In `argv`, {to} is where and {cache} a directory for it; `env` is added to
    the node's. `dirty`: the program keeps what is not written back yet below {cache}, and says so there."""

    program: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    dirty: bool = False


@dataclass(frozen=True)
class Scheme:
    """`form` is a regular expression for what follows "://", `example` a whole address. `cloud`: only its machines find what it
    names. `files` or `ways` is set: a file system of the kernel, or programs in the order in which they are looked for.
    `programs` says what a node needs, for people."""

    title: str
    form: str
    example: str
    cloud: str = ""
    files: Callable[[Wanted], NetworkFile] | None = None
    ways: Callable[[Wanted], list[Way]] | None = None
    programs: str = ""
    keys: frozenset[str] = frozenset()  # of `options`, `cache`, `endpoint`, `region`: those that mean something to it


# ---------------------------------------------------------------- file systems


def _nfs(wanted: Wanted) -> NetworkFile:
    host, colon, port = wanted.host, "", ""
    if not host.endswith("]"):
        host, colon, port = host.partition(":")
    more = [f"port={port}"] if colon else []
    return NetworkFile("nfs", f"{host}:/{wanted.path}", [*SAFE, *more, *wanted.options], "nfs-common")


def _efs(wanted: Wanted) -> NetworkFile:
    """As the file system's own page advises."""
    fixed = ["nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport"]
    source = f"{wanted.host}.efs.{wanted.region}.amazonaws.com:/{wanted.path}"
    return NetworkFile("nfs4", source, [*SAFE, *fixed, *wanted.options], "nfs-common")


def _lustre(wanted: Wanted) -> NetworkFile:
    source = f"{wanted.host}.fsx.{wanted.region}.amazonaws.com@tcp:/{wanted.path}"
    return NetworkFile("lustre", source, [*SAFE, "relatime", "flock", *wanted.options], "lustre-client-modules")


def _filestore(wanted: Wanted) -> NetworkFile:
    fixed = ["hard", "timeo=600", "retrans=3", "rsize=1048576", "wsize=1048576"]
    return NetworkFile("nfs", f"{wanted.host}:/{wanted.path}", [*SAFE, *fixed, *wanted.options], "nfs-common")


def _azure_nfs(wanted: Wanted) -> NetworkFile:
    source = f"{wanted.host}.file.core.windows.net:/{wanted.host}/{wanted.path}"
    fixed = ["vers=4", "minorversion=1", "sec=sys", "nconnect=4"]
    return NetworkFile("nfs", source, [*SAFE, *fixed, *wanted.options], "nfs-common")


def _azure_smb(wanted: Wanted) -> NetworkFile:
    source = f"//{wanted.host}.file.core.windows.net/{wanted.path}"
    fixed = ["vers=3.1.1", "serverino", "nosharesock", "mfsymlinks", "actimeo=30"]
    secret = (wanted.host, "AZURE_STORAGE_KEY")
    return NetworkFile("cifs", source, [*SAFE, *fixed, *wanted.options], "cifs-utils", secret)


# ---------------------------------------------------------------- buckets


def _rclone(wanted: Wanted, remote: str, settings: Mapping[str, str], address: str) -> Way:
    """`remote`: the path below the remote. What the remote is stands in the environment, where no list of processes shows it."""
    argv = [
        "rclone",
        "mount",
        f"bucket:{remote}",
        "{to}",
        "--devname",
        address,
        "--umask",
        "022",
        "--dir-cache-time",
        "60s",
    ]
    if wanted.mode == "read-only":
        argv += ["--read-only"]
    if wanted.mode == "cached" or wanted.cache:
        argv += ["--vfs-cache-mode", "full", "--vfs-cache-max-size", f"{wanted.cache // MIB or 1}M"]
    if wanted.mode == "cached":
        argv += ["--vfs-write-back", "0s"]  # a file is on its way when it is closed
    env = {f"RCLONE_CONFIG_BUCKET_{key}": value for key, value in settings.items()}
    fixed = {"RCLONE_CONFIG": "/dev/null", "RCLONE_CACHE_DIR": "{cache}"}
    return Way("rclone", argv, {**env, **fixed}, dirty=wanted.mode == "cached")


def _s3(wanted: Wanted) -> list[Way]:
    settings = {
        "TYPE": "s3",
        "ENV_AUTH": "true",
        "PROVIDER": "Other" if wanted.endpoint else "AWS",
        "NO_CHECK_BUCKET": "true",
    }
    settings |= {"ENDPOINT": wanted.endpoint} if wanted.endpoint else {}
    settings |= {"REGION": wanted.region} if wanted.region else {}
    settings |= {"FORCE_PATH_STYLE": "true"} if wanted.endpoint else {}
    rclone = _rclone(wanted, _joined(wanted), settings, f"s3://{_joined(wanted)}")
    if wanted.mode != "read-only":
        return [rclone]  # mount-s3 writes new files only
    argv = ["mount-s3", wanted.host, "{to}", "--foreground", "--read-only"]
    argv += ["--prefix", f"{wanted.path}/"] if wanted.path else []
    argv += ["--endpoint-url", wanted.endpoint, "--force-path-style"] if wanted.endpoint else []
    argv += ["--region", wanted.region] if wanted.region else []
    argv += ["--cache", "{cache}", "--max-cache-size", str(wanted.cache // MIB or 1)] if wanted.cache else []
    return [Way("mount-s3", argv), rclone]


def _gs(wanted: Wanted) -> list[Way]:
    argv = ["gcsfuse", "--foreground", "--implicit-dirs"]
    argv += ["--only-dir", wanted.path] if wanted.path else []
    argv += ["-o", "ro"] if wanted.mode == "read-only" else []
    if wanted.cache:
        argv += ["--cache-dir", "{cache}", "--file-cache-max-size-mb", str(wanted.cache // MIB or 1)]
    settings = {"TYPE": "google cloud storage", "ENV_AUTH": "true", "BUCKET_POLICY_ONLY": "true"}
    return [
        Way("gcsfuse", [*argv, wanted.host, "{to}"]),
        _rclone(wanted, _joined(wanted), settings, f"gs://{_joined(wanted)}"),
    ]


def _az(wanted: Wanted) -> list[Way]:
    """`host` is the storage account; the first part of `path` the container."""
    container, _, prefix = wanted.path.partition("/")
    argv = ["blobfuse2", "mount", "{to}", "--foreground", "--container-name", container, "--tmp-path", "{cache}"]
    argv += ["--subdirectory", prefix] if prefix else []
    argv += ["--read-only"] if wanted.mode == "read-only" else []
    argv += ["--cache-size-mb", str((wanted.cache or DEFAULT_CACHE) // MIB)]
    account = {"AZURE_STORAGE_ACCOUNT": wanted.host}
    settings = {"TYPE": "azureblob", "ENV_AUTH": "true", "ACCOUNT": wanted.host}
    rclone = _rclone(wanted, wanted.path, settings, f"az://{_joined(wanted)}")
    return [
        Way("blobfuse2", argv, account),
        Way(rclone.program, rclone.argv, {**rclone.env, **account}, rclone.dirty),
    ]


def _joined(wanted: Wanted) -> str:
    return f"{wanted.host}/{wanted.path}" if wanted.path else wanted.host


_ANYTHING = r"(/[^\s,]*)?"
_FUSE = "and fuse3"
SCHEMES: Mapping[str, Scheme] = {
    "nfs": Scheme(
        "an NFS server", rf"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+(:[0-9]{{1,5}})?){_ANYTHING}", "nfs://10.0.0.5/export",
        files=_nfs, programs="nfs-common", keys=frozenset({"options"}),
    ),
    "efs": Scheme(
        "Amazon EFS", rf"fs-[0-9a-f]{{8,40}}{_ANYTHING}", "efs://fs-0123456789abcdef0",
        cloud="aws", files=_efs, programs="nfs-common", keys=frozenset({"options", "region"}),
    ),
    "fsx": Scheme(
        "FSx for Lustre", r"fs-[0-9a-f]{8,40}/[A-Za-z0-9_-]+", "fsx://fs-0123456789abcdef0/fsx",
        cloud="aws", files=_lustre, programs="the Lustre client", keys=frozenset({"options", "region"}),
    ),
    "filestore": Scheme(
        "Filestore", r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[A-Za-z0-9_-]+", "filestore://10.0.0.2/share",
        cloud="gcp", files=_filestore, programs="nfs-common", keys=frozenset({"options"}),
    ),
    "azurefiles": Scheme(
        "Azure Files by NFS", r"[a-z0-9]{3,24}/[a-z0-9-]+", "azurefiles://account/share",
        cloud="azure", files=_azure_nfs, programs="nfs-common", keys=frozenset({"options"}),
    ),
    "azurefiles+smb": Scheme(
        "Azure Files by SMB", r"[a-z0-9]{3,24}/[a-z0-9-]+", "azurefiles+smb://account/share",
        files=_azure_smb, programs="cifs-utils", keys=frozenset({"options"}),
    ),
    "s3": Scheme(
        "an S3 bucket", rf"[a-z0-9][a-z0-9._-]{{1,62}}{_ANYTHING}", "s3://bucket/prefix",
        ways=_s3, programs=f"mount-s3 (mode read-only), or rclone {_FUSE}", keys=frozenset({"cache", "endpoint", "region"}),
    ),
    "gs": Scheme(
        "a bucket of Google Cloud Storage", rf"[a-z0-9][a-z0-9._-]{{1,221}}{_ANYTHING}", "gs://bucket/prefix",
        ways=_gs, programs=f"gcsfuse, or rclone {_FUSE}", keys=frozenset({"cache"}),
    ),
    "az": Scheme(
        "a container of Azure Blob Storage", rf"[a-z0-9]{{3,24}}/[a-z0-9$-]{{3,63}}{_ANYTHING}",
        "az://account/container/prefix",
        ways=_az, programs=f"blobfuse2, or rclone {_FUSE}", keys=frozenset({"cache"}),
    ),
}  # fmt: skip
OTHER_SCHEMES = {
    "gcs": "gs",
    "azure": "az",
    "abfs": "az",
    "wasb": "az",
    "s3a": "s3",
    "s3n": "s3",
    "nfs4": "nfs",
    "lustre": "fsx",
}


def shared_storage_of(cloud: str) -> str:
    """An address of a file system that machines of that cloud can mount, as an example for people."""
    own = (scheme.example for scheme in SCHEMES.values() if scheme.cloud == cloud)
    return next(own, SCHEMES["nfs"].example)


def file_document(found: NetworkFile, read_only: bool) -> dict[str, Any]:
    """For a node: see `wire`."""
    return {
        "type": found.type,
        "source": found.source,
        "options": ["ro" if read_only else "rw", *found.options],
        "package": found.package,
        "secret": list(found.secret),
    }
