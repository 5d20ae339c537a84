"""Many looks at a cluster by one process: `python -m tests.support.looker HOME`. A test that waits looks again and again,
and a `clusterctl status` each time would cost more processor time than what it waits for.

stdin carries one look a line, as JSON: [cluster, path of the API]; stdout one answer a line: {"answer"} or {"error"}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HOME = "CLUSTERCTL_HOME"
WHOLE_STATUS = "status --json"  # in place of a path: what the command line makes of the API's answers


class Looker:
    """Asks as the command line would, in the environment `env`. Its own process does not carry the cluster's home in its
    environment, by which tests find what a cluster has left running. Safe to use from several threads."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._lock = threading.Lock()
        command = [sys.executable, "-m", "tests.support.looker", self.env[HOME]]
        self._process = subprocess.Popen(
            command, env={key: value for key, value in env.items() if key != HOME}, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def get(self, cluster: str, path: str) -> Any:
        """The answer as plain data; fails with the sentence of what went wrong."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        with self._lock:
            stdin.write(json.dumps([cluster, path]) + "\n")
            stdin.flush()
            said = json.loads(stdout.readline())
        assert "error" not in said, said["error"]
        return said["answer"]

    def close(self) -> None:
        self._process.communicate()  # the end of its stdin is its end


def main() -> None:
    from clusterctl.client.head.api import Api
    from clusterctl.client.nodes.node_list import whole_status
    from clusterctl.client.registry import Registry
    from clusterctl.core.errors import ClusterctlError

    os.environ[HOME] = sys.argv[1]
    for line in sys.stdin:
        cluster, path = json.loads(line)
        try:
            with Api.of(Registry().resolve(cluster)) as api:
                said = {"answer": whole_status(api) if path == WHOLE_STATUS else api.get(path)}
        except ClusterctlError as error:
            said = {"error": str(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
