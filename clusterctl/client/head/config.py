"""What a head starts from (`config.json`), and by which a client shows that it may speak to it (`client.json`).

Written here and nowhere else, but for a head that puts another spec into its own. Here it is the head's own file where the head
runs on this machine, and else what `down` finds the cluster's nodes by.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.registry import Cluster, kept_volumes, read_note
from clusterctl.spec.model import ClusterSpec


def config_there(cluster: Cluster, spec: ClusterSpec, text: str, engine_python: str) -> str:
    """The file for a head on another machine, whose paths are below its directory there. `text`: the spec as the user wrote it;
    `engine_python`: "" where the head has no engine of its own. Mints the cluster's token where there is none yet."""
    return _document(_whole(cluster, spec, text, engine_python, "provider"))


def write_config_here(cluster: Cluster, spec: ClusterSpec, text: str) -> None:
    """The file for a head on this machine, which does not run: it may listen on another port than it did."""
    keep_token(cluster, _token_of(cluster) or new_token())
    python = (spec.ray.python if spec.ray else "") or sys.executable
    store = str(cluster.directory.parent.parent / "engines")  # of all clusters known here
    config = _whole(cluster, spec, text, python, str(cluster.provider_dir))
    places = {"engine_store": store, "kept_volumes": str(kept_volumes(cluster.directory.parent.parent, cluster.name))}
    write_private(cluster.config_file, _document({**config, **places}))


def keep_config(cluster: Cluster, spec: ClusterSpec, text: str) -> None:
    """What `down` needs where the head is to run on another machine: on disk before anything is launched."""
    write_private(cluster.config_file, config_there(cluster, spec, text, ""))


def keep_bare_config(cluster: Cluster, provider: Any, auth: Mapping[str, Any]) -> None:
    """What `down` needs of a cluster that was found again without its spec. No head starts from it."""
    spec = {"cluster": cluster.name, "provider": provider, "auth": dict(auth), "pools": []}
    config = {"name": cluster.name, "uid": cluster.uid, "spec": spec, "state_dir": str(cluster.provider_dir)}
    write_private(cluster.config_file, _document(config))


def keep_token(cluster: Cluster, token: str) -> None:
    """From now on this is the cluster's token; where its head listens is found out anew."""
    write_private(cluster.client_file, json.dumps({"url": "", "token": token}))


def new_token() -> str:
    """256 random bits, in characters that a URL and a header take."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What a head knows of its token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _whole(cluster: Cluster, spec: ClusterSpec, text: str, engine_python: str, state_dir: str) -> dict[str, Any]:
    token = _token_of(cluster)
    if not token:
        keep_token(cluster, token := new_token())
    return {
        "name": cluster.name,
        "uid": cluster.uid,
        "spec_yaml": text,
        "spec": spec.model_dump(mode="json", by_alias=True),
        "token_sha256": digest_of(token),
        "state_dir": state_dir,
        "engine_python": engine_python,
    }


def _token_of(cluster: Cluster) -> str:
    """ "" where none was minted, and where it cannot be read any more."""
    return str(read_note(cluster.client_file).get("token") or "")


def _document(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=1)
