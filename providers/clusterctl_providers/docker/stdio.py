"""`python -m clusterctl_providers.docker.stdio STATE CONTAINER ENVIRONMENT ARGV...`: runs a program in a container, with this
process's stdin, stdout and stderr. What runs there sees the end of its stdin when this process is gone, however it ended.

STATE is the provider's directory of the cluster (it knows the engine), ENVIRONMENT a JSON object. No secret is in either.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clusterctl.core.errors import ProviderError
from clusterctl_providers.docker.client import TROUBLE, in_words, open_engine
from clusterctl_providers.docker.stream import STDERR, Stream


def main(arguments: Sequence[str]) -> int:
    """Returns the program's exit code, 125 where it could not be run or its end is not known."""
    state, container, environment, *argv = arguments
    try:
        api = open_engine("", Path(state)).api
        made = api.exec_create(container, argv, stdin=True, environment=json.loads(environment))["Id"]
        for stream, data in Stream(api.exec_start(made, socket=True)).frames(0, _end):
            _write(2 if stream == STDERR else 1, data)
        return int(api.exec_inspect(made)["ExitCode"] or 0)
    except ProviderError as error:
        print(error, file=sys.stderr)
    except TROUBLE as error:
        print(f"running {argv[0]} in {container}: {in_words(error)}", file=sys.stderr)
    return 125


def _end() -> None:
    """Where nothing more comes in, this process ends, and with it the connection."""
    os._exit(0)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
