"""The clusters known on this machine: one private directory each under `$CLUSTERCTL_HOME/clusters`.

    Registry.create(name, ...)   mints the uid and the directory; a known name keeps its uid
    Registry.resolve(name)       -c NAME, else $CLUSTERCTL_CLUSTER, else the only cluster known
    Registry.forget(cluster)     removes the directory and all that is in it

What a cluster runs is never decided from these files alone: they can be lost, and found again from the provider's tags. Who it
is, its uid, is in two of them (`cluster.json` and `head/config.json`), each made anew from the other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.core.errors import ClusterctlError, NotFound

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
FILE, CONFIG = "cluster.json", "head/config.json"
OF_A_HEAD = (
    "head/nodes.db",
    "head/store.db",
    "inventory.json",
)  # where one of them lies, something of a cluster may run


class Damaged(ClusterctlError):
    """A file of ours is not what was written there."""


@dataclass(frozen=True)
class Cluster:
    """A cluster known here. `engine`: "ray" or "none"; `created`: unix seconds; `spec_path`: the user's file at the last `up`.
    `machine`: what its nodes are, "process", "container", "host", "instance", "pod" (see `Kind`), "" where that is not known.
    `place`: where it is, "aws/us-east-1". `trying`: whether that is one of several places, and not known yet to have what it
    needs."""

    name: str
    uid: str
    provider: str
    engine: str
    created: float
    spec_path: str
    directory: Path
    machine: str = ""
    place: str = ""
    trying: bool = False

    @property
    def head_dir(self) -> Path:
        """What the head has on disk, where it runs on this machine."""
        return self.directory / "head"

    @property
    def provider_dir(self) -> Path:
        """What its provider has on disk."""
        return self.directory / "provider"

    @property
    def spec_file(self) -> Path:
        """The spec that was last put in force from here."""
        return self.directory / "spec.yaml"

    @property
    def config_file(self) -> Path:
        return self.head_dir / "config.json"

    @property
    def client_file(self) -> Path:
        """The head's address and the token, for its owner only."""
        return self.directory / "client.json"

    @property
    def on_hosts(self) -> bool:
        """Whether its machines are those of an inventory, the head's among them."""
        return self.machine == "host"

    @property
    def head_is_remote(self) -> bool:
        """Whether the head runs on a machine that is reached by SSH, through a tunnel."""
        return self.on_hosts or (self.directory / "inventory.json").exists()

    def read_client(self) -> dict[str, Any]:
        """How to reach the head, as `up` left it: {"url", "token"}; {} before the first `up` came so far."""
        try:
            return read_json(self.client_file)
        except Damaged as error:
            here = f"`clusterctl up {self.spec_path or 'SPEC'}` starts the head again with a new one"
            there = f"put a copy of it back; without one only `clusterctl down {self.name}` works, which ends its jobs"
            raise Damaged(
                f"{self.client_file} is damaged, which has the token of cluster {self.name!r}: "
                f"{there if self.head_is_remote else here}"
            ) from error

    def read_config(self) -> dict[str, Any]:
        """What the head starts from, or what `down` knows of one elsewhere; {} before the first `up` came so far."""
        try:
            return read_json(self.config_file)
        except Damaged:
            return self._config_again()

    def _config_again(self) -> dict[str, Any]:
        """The part of it that `down` needs, from the spec that was last put in force from here."""
        from clusterctl.spec.load import parse_spec

        try:
            spec = parse_spec(self.spec_file.read_text(encoding="utf-8"), str(self.spec_file))
        except OSError as error:
            raise Damaged(
                f"{self.config_file} is damaged and {self.spec_file} cannot be read ({error.strerror}): copy your spec to "
                f"{self.spec_file}, from which it is made anew"
            ) from error
        document = spec.model_dump(mode="json", by_alias=True)
        return {"name": self.name, "uid": self.uid, "spec": document, "state_dir": str(self.provider_dir)}

    def read_head(self) -> dict[str, Any]:
        """What the head said of itself when it began to listen; {} while it has not."""
        return read_note(self.head_dir / "head.json")


class Registry:
    """All clusters under one home; `home` defaults to `$CLUSTERCTL_HOME`, else `~/.clusterctl`."""

    def __init__(self, home: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self.environment = environment
        chosen = home or Path(environment.get("CLUSTERCTL_HOME") or "~/.clusterctl").expanduser()
        self.home = chosen.absolute()

    @property
    def root(self) -> Path:
        """The directory with one directory for each cluster."""
        return self.home / "clusters"

    def names(self) -> list[str]:
        """Of the clusters known here, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if NAME.fullmatch(path.name) and is_of_a_cluster(path))

    def create(
        self,
        name: str,
        *,
        provider: str,
        engine: str,
        spec_path: str,
        uid: str = "",
        place: str = "",
        trying: bool = False,
    ) -> Cluster:
        """The cluster `name`, made if it is new. Its uid is minted once and survives every later `up`; `uid` is that of a
        new one that exists already and was found again. `trying`: a new one is in one of several places, until `settle`. Raises
        Damaged where a head's state lies whose uid nobody knows: another one would leave behind all that runs."""
        directory = self.root / checked_name(name)
        known = {} if uid else known_of(directory)
        body = {
            "name": name,
            "uid": uid or known.get("uid") or str(uuid.uuid4()),
            "provider": provider,
            "machine": machine_of({"provider": provider}),
            "engine": engine,
            "created": known.get("created") or time.time(),
            "spec_path": spec_path,
            "place": place or known.get("place") or provider,
            "trying": trying and bool(known.get("trying", not known)),
        }
        make_private_dir(self.home)
        make_private_dir(self.root)
        for path in (directory, directory / "head", directory / "provider"):
            make_private_dir(path)
        if body != read_note(directory / FILE):
            write_private(directory / FILE, json.dumps(body, indent=1))
        return self.load(name)

    def settle(self, cluster: Cluster) -> None:
        """The place of `cluster` has what it needs: it stays there as long as it lives."""
        note = {**known_of(cluster.directory), "trying": False}
        write_private(cluster.directory / FILE, json.dumps(note, indent=1))

    def load(self, name: str) -> Cluster:
        """Raises NotFound with the names that are known."""
        directory = self.root / checked_name(name)
        body = known_of(directory)
        if not body:
            raise NotFound(f"no cluster named {name!r} is known here ({self._known()})")
        return Cluster(
            name=body["name"],
            uid=body["uid"],
            provider=body.get("provider", ""),
            engine=body.get("engine", ""),
            created=float(body.get("created") or 0.0),
            spec_path=body.get("spec_path", ""),
            directory=directory,
            machine=machine_of(body),
            place=body.get("place") or body.get("provider", ""),
            trying=bool(body.get("trying")),
        )

    def all(self) -> list[Cluster]:
        """The clusters known here, by name."""
        return [self.load(name) for name in self.names()]

    def resolve(self, name: str = "") -> Cluster:
        """`name`, else `$CLUSTERCTL_CLUSTER`, else the only cluster known; NotFound says what to do otherwise."""
        wanted = name or self.environment.get("CLUSTERCTL_CLUSTER", "")
        if wanted:
            return self.load(wanted)
        names = self.names()
        if not names:
            raise NotFound(f"no cluster is known here ({self.root}): start one with `clusterctl up SPEC`")
        if len(names) > 1:
            raise NotFound(
                f"{len(names)} clusters are known here ({', '.join(names)}): choose with -c NAME or $CLUSTERCTL_CLUSTER"
            )
        return self.load(names[0])

    def forget(self, cluster: Cluster) -> None:
        """Removes all that is kept of `cluster`. It is moved aside first, so that a half-removed one is no cluster."""
        aside = self.root / f".{cluster.name}.gone"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            cluster.directory.rename(aside)
            shutil.rmtree(aside)
        except OSError as error:
            raise ClusterctlError(
                f"{error.filename or aside} could not be removed ({error.strerror}): look into it, then remove it by hand"
            ) from error

    def _known(self) -> str:
        names = self.names()
        return f"known: {', '.join(names)}" if names else f"none is, in {self.root}"


def kept_volumes(home: Path, name: str) -> Path:
    """Where volumes are that survive `down`, of the clusters of that name whose nodes are processes of this machine."""
    return home / "volumes" / name


def is_of_a_cluster(directory: Path) -> bool:
    """Whether a cluster is known by that directory, and be it by what is left in it."""
    return any((directory / name).is_file() for name in (FILE, CONFIG, *OF_A_HEAD))


def known_of(directory: Path) -> dict[str, Any]:
    """What `cluster.json` says, or would say where it is lost or damaged; {} where there is no cluster. Raises Damaged where
    there is one, and nothing says whose its machines are."""
    note = read_note(directory / FILE)
    if not note.get("uid"):
        note = _known_again(directory)
    if not note and is_of_a_cluster(directory):
        raise Damaged(
            f"neither {directory / FILE} nor {directory / CONFIG} can be read any more, so that nobody knows which machines "
            f"are those of cluster {directory.name!r}: put a copy of one of them back, or move {directory} away and find the "
            "cluster by what runs, with `clusterctl list --adopt SPEC`"
        )
    return note


def _known_again(directory: Path) -> dict[str, Any]:
    """From what the head was given. The user's own file and the time are not in it."""
    config = read_note(directory / CONFIG)
    if not config.get("uid"):
        return {}
    from clusterctl.spec.providers.given import providers_in

    spec = config.get("spec") or {}
    provider = next(iter(providers_in(spec)), "")
    return {
        "name": directory.name,
        "uid": str(config["uid"]),
        "provider": provider,
        "machine": machine_of({"provider": provider}),
        "engine": "none" if spec.get("engine") == "none" else "ray",
        "created": (directory / CONFIG).stat().st_mtime,
        "spec_path": "",
        "place": provider,
        "trying": False,
    }


def machine_of(note: Mapping[str, Any]) -> str:
    """What the nodes of the cluster with this `cluster.json` are. It is noted there, since a command that reads no spec need
    not load what providers are."""
    if "machine" in note:
        return str(note["machine"])
    from clusterctl.spec.providers.registry import KINDS

    return KINDS[note["provider"]].machine if note.get("provider") in KINDS else ""


def checked_name(name: str) -> str:
    """`name` when it can be a cluster's (so that no path can hide in it); raises NotFound."""
    if not NAME.fullmatch(name):
        raise NotFound(f"no cluster can be named {name!r}: names are a-z, 0-9 and '-', and begin with a letter")
    return name


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, or {} where there is no such file; raises Damaged where it is another thing."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise Damaged(
            f"{path} is damaged ({error}): put a copy of it back, or remove it and run `clusterctl up SPEC`"
        ) from error
    except OSError as error:
        raise ClusterctlError(f"{path} cannot be read ({error.strerror}): check its owner and mode") from error
    if not isinstance(body, dict):
        raise Damaged(
            f"{path} is damaged (no object): put a copy of it back, or remove it and run `clusterctl up SPEC`"
        )
    return body


def read_note(path: Path) -> dict[str, Any]:
    """The same of what is found out again where it is missing: {} for a damaged one, too."""
    try:
        return read_json(path)
    except Damaged:
        return {}
