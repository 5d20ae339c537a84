"""One entry of `mounts`: shared storage, and where it appears on the nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from clusterctl.spec.base import Size, SpecModel
from clusterctl.spec.faults import Finding, did_you_mean, refuse, shorten
from clusterctl.spec.fields import NAME_PATTERN, Text
from clusterctl.spec.providers.storage import DEFAULT_CACHE, OTHER_SCHEMES, SCHEMES, Scheme, Wanted

Mode = Literal["read-only", "read-write", "cached"]
_FROM = "as in nfs://10.0.0.5/export or s3://bucket/prefix"
# What a machine is: a mount there would take it away.
_SYSTEM = (
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "var",
)
_ROOM_BELOW = ("run", "tmp", "var", "root")  # where a directory of its own is nobody's
_SECRET = re.compile(r"(pass(word)?|user(name)?|cred(entials)?|sasport|key)=", re.IGNORECASE)
_KEYS = ("options", "cache", "endpoint", "region")


class Mount(SpecModel):
    """Storage that every node sees at the same place: a file system of the network, a bucket, a volume of the cluster's own."""

    model_config = ConfigDict(populate_by_name=True)

    source: Text = Field(
        default="",
        alias="from",
        description="Address of the storage: nfs://, efs://, fsx://, filestore://, azurefiles://, azurefiles+smb://, s3://, "
        "gs:// or az:// (docs/storage.md).",
        examples=["nfs://10.0.0.5/export", "s3://bucket/prefix"],
    )
    volume: str = Field(
        default="",
        pattern=f"({NAME_PATTERN})|^$",
        description="Name of a volume of the cluster's own, in the place of `from`; for nodes that are processes or containers.",
        examples=["work"],
    )
    to: str = Field(
        description="Absolute path on the nodes. Where nodes are processes of one machine, it is below $CLUSTERCTL_MOUNTS, which "
        "is empty elsewhere: $CLUSTERCTL_MOUNTS/data is right on all."
    )
    mode: Mode | None = Field(
        default=None,
        description="read-only, read-write (of file systems and volumes: the default) or cached (of buckets: what is written "
        "goes back when the file is closed; without it they are read-only).",
    )
    options: list[Text] = Field(
        default=[],
        description="Options of `mount -o`, besides those that the storage needs.",
        examples=[["nconnect=4"]],
    )
    cache: Size | None = Field(
        default=None,
        description="How much of a node's disk a bucket's files may take; default with `mode: cached`: 10GiB, else nothing.",
        examples=["50GiB"],
    )
    endpoint: str = Field(
        default="",
        description="Address of another server that speaks S3.",
        examples=["http://10.0.0.9:9000"],
    )
    region: Text = Field(
        default="",
        description="Region of the bucket or file system; default: the provider's, where it has such regions.",
    )
    keep: bool = Field(
        default=False, description="The volume survives `down`, and is there again for the cluster's next `up`."
    )

    @model_validator(mode="after")
    def _keys_agree(self) -> Mount:
        findings = list(_check(self))
        return refuse(findings) if findings else self

    @property
    def scheme(self) -> Scheme | None:
        """None for a volume."""
        return SCHEMES.get(self.scheme_name)

    @property
    def scheme_name(self) -> str:
        return self.source.partition("://")[0] if self.source else ""

    @property
    def is_bucket(self) -> bool:
        """Shown by a program, not by the kernel."""
        return self.scheme is not None and self.scheme.ways is not None

    @property
    def how(self) -> Mode:
        """`mode`, or what it is where it is not written."""
        return self.mode or ("read-only" if self.is_bucket else "read-write")

    def wanted(self, region: str) -> Wanted:
        """`region`: the provider's, "" where that means nothing to the storage."""
        host, _, path = self.source.partition("://")[2].partition("/")
        cache = self.cache or (DEFAULT_CACHE if self.how == "cached" else 0)
        where = self.region or ("" if self.endpoint else region)
        return Wanted(host, path.strip("/"), self.how, tuple(self.options), cache, self.endpoint, where)


def _check(mount: Mount) -> Iterator[Finding]:
    """What contradicts itself inside of one."""
    yield from _check_source(mount)
    yield from _check_target(mount.to)
    yield from _check_options(mount)
    if mount.endpoint and not re.fullmatch(r"https?://[^\s/@]+/?", mount.endpoint):
        yield Finding(
            ("endpoint",), f"{shorten(mount.endpoint)} is not the address of a server", "as in http://10.0.0.9:9000"
        )
    if mount.keep and not mount.volume:
        yield Finding(("keep",), "'keep' is for volumes: nothing else is removed by `down`", "remove it", True)
    if mount.volume and mount.how == "cached":
        yield Finding(("mode",), "a volume is on the nodes' own disk: there is nothing to cache", "remove it")


def _check_source(mount: Mount) -> Iterator[Finding]:
    if mount.source and mount.volume:
        yield Finding(("volume",), "'from' and 'volume' both say what is mounted", "keep one of them", True)
        return
    if not mount.source and not mount.volume:
        yield Finding((), "it does not say what is mounted", f"write `from`, {_FROM}, or `volume`")
        return
    if mount.volume:
        meant = [key for key in _KEYS if getattr(mount, key)]
        yield from (Finding((key,), f"{key!r} means nothing to a volume", "remove it", True) for key in meant)
        return
    name, colon, rest = mount.source.partition("://")
    if not colon:
        yield Finding(("from",), f"{shorten(mount.source)} is not an address of storage", _fix(mount.source))
    elif name not in SCHEMES:
        meant = OTHER_SCHEMES.get(name.lower())
        suggestion = f"did you mean {meant!r}?" if meant else did_you_mean(name, SCHEMES)
        yield Finding(("from",), f"no storage is written {name}://", suggestion or f"known are {', '.join(SCHEMES)}")
    elif not re.fullmatch(SCHEMES[name].form, rest) or ".." in rest.split("/"):
        yield Finding(
            ("from",), f"{shorten(mount.source)} does not name {SCHEMES[name].title}", f"as in {SCHEMES[name].example}"
        )
    else:
        yield from _check_keys(mount, SCHEMES[name])


def _fix(text: str) -> str:
    server, _, path = text.partition(":/")
    if path and re.fullmatch(r"[A-Za-z0-9.-]+", server):
        return f"did you mean nfs://{server}/{path}?"
    return f"{_FROM}; what is on this machine is copied by `files`" if text.startswith(("/", "~", ".")) else _FROM


def _check_keys(mount: Mount, scheme: Scheme) -> Iterator[Finding]:
    for key in _KEYS:
        if getattr(mount, key) and key not in scheme.keys:
            yield Finding((key,), f"{key!r} means nothing to {scheme.title}", "remove it", True)
    if scheme.ways is None and mount.how == "cached":
        yield Finding(("mode",), f"{scheme.title} is written to at once: there is nothing to cache", "write read-write")
    if scheme.ways is not None and mount.how == "read-write":
        yield Finding(("mode",), "a bucket is no disk: what is written goes back when a file is closed", "write cached")


def _check_target(to: str) -> Iterator[Finding]:
    parts = to.strip("/").split("/")
    if not to.startswith("/") or any(part in ("", ".", "..") for part in parts) or any(ord(c) < 33 for c in to):
        yield Finding(("to",), f"{shorten(to)} is not an absolute path", "as in /data")
    elif parts[0] in _SYSTEM and (len(parts) == 1 or parts[0] not in _ROOM_BELOW):
        yield Finding(
            ("to",), f"{shorten(to)} belongs to the machine's system: a mount would hide it", "as in /data or /mnt/data"
        )


def _check_options(mount: Mount) -> Iterator[Finding]:
    for index, option in enumerate(mount.options):
        if not re.fullmatch(r"[A-Za-z_][^\s,'\"\\]*", option):
            yield Finding(
                ("options", index), f"{shorten(option)} is not one option of mount", "one item each, as in [vers=4.1]"
            )
        elif _SECRET.match(option):
            what = f"{option.partition('=')[0]!r} would be seen in the list of processes"
            yield Finding(
                ("options", index), what, "docs/storage.md says where each storage takes its credentials from"
            )
        elif option in ("ro", "rw"):
            yield Finding(
                ("options", index), f"{option!r} is said by `mode`", "write `mode: read-only` or `mode: read-write`"
            )
