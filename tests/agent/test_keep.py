"""What keeps the programs of a host running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from clusterctl_runtime.agent.bundle import build_bundle

from tests.support.cluster import wait_until

COUNTING = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(int(sys.argv[2]))"


def test_a_program_that_ended_or_pauses_is_started_at_once_when_somebody_asks_for_it(tmp_path: Path) -> None:
    """An `up` that has mended what kept a head from starting does not wait for its pauses to pass."""
    bundle, _ = build_bundle(tmp_path / "bundle")
    codes = {"ends": "0", "fails": "1"}
    counts = {name: tmp_path / f"{name}.count" for name in codes}
    run = {name: [sys.executable, "-I", "-c", COUNTING, str(counts[name]), code] for name, code in codes.items()}
    (tmp_path / "keep.json").write_text(json.dumps({"run": run}))

    def count(name: str) -> int:
        return len(counts[name].read_text()) if counts[name].exists() else 0

    with subprocess.Popen(
        [sys.executable, "-I", str(bundle), "--keep", str(tmp_path)], stderr=subprocess.DEVNULL
    ) as keeper:
        try:
            wait_until(lambda: count("fails") >= 3, what="what fails is tried again")
            assert count("ends") == 1
            keeper.send_signal(signal.SIGHUP)
            wait_until(lambda: count("ends") == 2, what="what had ended runs again")
        finally:
            keeper.terminate()
            assert keeper.wait(60) == 0
