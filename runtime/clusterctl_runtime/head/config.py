"""What the client leaves for the head in `config.json`, and where the head keeps its own things."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl.core.errors import UsageError
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.mounts.documents import VolumePlaces
from clusterctl_runtime.files.private import write_private


@dataclass(frozen=True)
class HeadConfig:
    """`token_sha256` is the hex digest of the admin token: the token itself is never on the head's disk.

    `state_dir` is the provider's scratch directory; `spec_yaml` the text in force.
    """

    name: str
    uid: str
    spec: ClusterSpec
    spec_yaml: str
    token_sha256: str
    state_dir: Path
    directory: Path
    engine_python: str
    raw: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> HeadConfig:
        """From `config.json` in `directory`. Raises UsageError where it is missing or makes no sense."""
        path = directory / "config.json"
        try:
            raw = json.loads(path.read_text())
            return cls(
                name=raw["name"],
                uid=raw["uid"],
                spec=ClusterSpec.model_validate(raw["spec"]),
                spec_yaml=raw.get("spec_yaml", ""),
                token_sha256=raw["token_sha256"],
                state_dir=Path(raw["state_dir"]),
                directory=directory,
                engine_python=raw.get("engine_python") or sys.executable,
                raw=raw,
            )
        except FileNotFoundError:
            raise UsageError(f"no head configuration at {path}: `clusterctl up SPEC` writes it") from None
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"the head configuration {path} cannot be read ({error}): run `clusterctl up SPEC`"
            ) from error

    @property
    def engine_store(self) -> Path:
        """Where engine environments and their wheels are kept on the head's machine."""
        return Path(self.raw.get("engine_store") or self.directory.parent / "engines")

    @property
    def volumes(self) -> VolumePlaces:
        """Where volumes of the cluster are, for nodes that are processes of this machine."""
        return VolumePlaces(str(self.raw.get("kept_volumes") or ""), str(self.directory / "volumes"))

    @property
    def files(self) -> list[dict[str, Any]]:
        """The spec's `files` as the client packed them: {"from", "to", "digest", "size", "kind" "file" | "directory"}."""
        return list(self.raw.get("files") or [])

    def with_spec(self, spec: ClusterSpec, spec_yaml: str, files: list[dict[str, Any]]) -> HeadConfig:
        """The same head under a new spec, written to disk before it takes effect."""
        raw = {
            **self.raw,
            "spec": spec.model_dump(mode="json", by_alias=True),
            "spec_yaml": spec_yaml,
            "files": files,
        }
        write_private(self.directory / "config.json", json.dumps(raw, indent=1))
        return HeadConfig(
            self.name,
            self.uid,
            spec,
            spec_yaml,
            self.token_sha256,
            self.state_dir,
            self.directory,
            self.engine_python,
            raw,
        )
