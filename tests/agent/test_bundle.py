"""The one file that nodes run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile

from clusterctl_runtime.agent.bundle import build_bundle


def test_two_processes_build_the_same_bytes(tmp_path) -> None:
    script = "import sys, pathlib; from clusterctl_runtime.agent.bundle import build_bundle\n"
    script += "print(build_bundle(pathlib.Path(sys.argv[1]))[1])"
    digests = set()
    for seed in ("1", "2"):
        place = tmp_path / seed
        argv = [sys.executable, "-c", script, str(place)]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        (file,) = place.iterdir()
        assert file.name == f"agent-{done.stdout.strip()}.pyz"
        digests.add(hashlib.sha256(file.read_bytes()).hexdigest())
        assert done.stdout.strip() in digests
    assert len(digests) == 1


def test_building_again_leaves_a_good_file_and_mends_a_damaged_one(tmp_path) -> None:
    path, digest = build_bundle(tmp_path)
    made = path.stat()
    assert build_bundle(tmp_path) == (path, digest)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    path.write_bytes(b"damaged")
    build_bundle(tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_the_bundle_needs_nothing_but_a_stock_python(bundle, tmp_path) -> None:
    """Every module of it is imported without site-packages, from a directory where none of our sources are."""
    names = [n.removesuffix(".py").replace("/", ".") for n in zipfile.ZipFile(bundle).namelist() if "/" in n]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    script = f"import sys; sys.path.insert(0, {str(bundle)!r})\nfor name in {names!r}: __import__(name)\nprint(len(sys.path))"
    argv = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "clusterctl_runtime.agent.node" in names and not any("head" in name for name in names)


def test_it_says_its_version_and_its_usage(bundle) -> None:
    done = subprocess.run([sys.executable, str(bundle), "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip()
    done = subprocess.run([sys.executable, str(bundle)], capture_output=True, text=True)
    assert done.returncode == 2 and "--bootstrap FILE" in done.stderr
