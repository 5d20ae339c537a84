"""Makes what the tests know of KubeRay's objects: `tests/kuberay/crds/*.json.gz` and `tests/kuberay/samples.json.gz`.

    python scripts/make_kuberay_schemas.py FOLDER

FOLDER has `crds/*.yaml` (custom resource definitions) and `samples/*.yaml` (manifests), as `tests/kuberay/crds/README.md` says
where to get them. Of a definition the schema of version v1 is kept, without descriptions; of a manifest the documents that are
KubeRay's. YAML takes seconds to read, JSON milliseconds: that is all that is gained.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).resolve().parent.parent / "tests" / "kuberay"
SOURCES = {
    "ray.io": "github.com/ray-project/kuberay v1.7.0 (59d663ae) ray-operator/config/crd/bases, Apache-2.0",
    "monitoring.coreos.com": "github.com/prometheus-operator/prometheus-operator v0.93.0 (f8fafd47) "
    "example/prometheus-operator-crd, Apache-2.0",
}
SAMPLES = "github.com/ray-project/kuberay v1.7.0 (59d663ae) ray-operator/config/samples, Apache-2.0"
VERSION = "v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for path in sorted((folder / "crds").glob("*.yaml")):
        [definition] = _documents(path)
        kind, schema = _schema(definition)
        _write(TARGET / "crds" / f"{kind}.json.gz", schema)
    _write(TARGET / "samples.json.gz", {"source": SAMPLES, "files": _samples(folder / "samples")})


def _schema(definition: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    spec = definition["spec"]
    [version] = [each for each in spec["versions"] if each["name"] == VERSION]
    return spec["names"]["kind"], {
        "source": SOURCES[spec["group"]],
        "apiVersion": f"{spec['group']}/{VERSION}",
        "kind": spec["names"]["kind"],
        "schema": _plain(version["schema"]["openAPIV3Schema"]),
    }


def _plain(node: Any) -> Any:
    """Without descriptions; a property of that name, which is a schema and no text, stays."""
    if isinstance(node, dict):
        return {name: _plain(each) for name, each in node.items() if name != "description" or not isinstance(each, str)}
    return [_plain(each) for each in node] if isinstance(node, list) else node


def _samples(folder: Path) -> dict[str, list[Any]]:
    found = {path.name: [each for each in _documents(path) if _is_ray(each)] for path in sorted(folder.glob("*.yaml"))}
    return {name: documents for name, documents in found.items() if documents}


def _is_ray(document: Any) -> bool:
    return isinstance(document, dict) and str(document.get("apiVersion")).startswith("ray.io/")


def _documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _write(path: Path, value: Any) -> None:
    """The same bytes for the same value, whenever it is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(value, separators=(",", ":"), sort_keys=True).encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
