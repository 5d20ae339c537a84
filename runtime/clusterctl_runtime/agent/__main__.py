"""`agent.pyz --bootstrap FILE`: runs this machine's agent until the head, or the lease, ends it.

A host of an inventory also runs `--host FILE` (see `standby`), kept by `--keep ROOT` (see `keep`), and a `--spare NAME`:
an agent that has loaded everything and waits for one line on its stdin, {"bootstrap", "log", "instance"}, to become a node.

`--release DIRECTORY` unmounts what the node in that directory has mounted, after an agent that was killed; it says what could
not be.

Exit codes: 0 ended by the head or a signal, 2 usage, 3 refused for good, 4 the head was silent for too long, 5 the
directory cannot be used.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def run(version: str = "source") -> None:
    """The process' main function; does not return."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(version)
        raise SystemExit(0)
    if len(arguments) != 2 or arguments[0] not in ("--bootstrap", "--spare", "--host", "--keep", "--release"):
        print(
            "usage: agent.pyz --bootstrap FILE | --spare NAME | --host FILE | --keep ROOT | --release DIRECTORY | --version",
            file=sys.stderr,
        )
        raise SystemExit(2)
    if arguments[0] == "--keep":
        from clusterctl_runtime.agent.host.keeper import run_keeper

        raise SystemExit(run_keeper(Path(arguments[1])))
    if arguments[0] == "--release":
        from clusterctl_runtime.agent.mounting.record import release_all

        left = release_all(Path(arguments[1]))
        print("\n".join(left), end="\n" if left else "")
        raise SystemExit(1 if left else 0)
    if arguments[0] == "--host":
        from clusterctl_runtime.agent.host import standby

        raise SystemExit(standby.serve(Path(arguments[1]), version))
    # Before anything heavy is imported: what the watchdog's copy of this process holds is what it costs.
    from clusterctl_runtime.agent.init import stand_in_for_init
    from clusterctl_runtime.agent.tasks.inherited import state_what_is_inherited
    from clusterctl_runtime.agent.tasks.watchdog import Watchdog, mark_children

    stand_in_for_init()
    state_what_is_inherited()
    boot_id = os.urandom(16).hex()
    mark_children(boot_id)
    watchdog = Watchdog(boot_id)
    bootstrap_file = Path(arguments[1]) if arguments[0] == "--bootstrap" else _wait_as_spare()
    raise SystemExit(_serve(bootstrap_file, boot_id, watchdog, version))


def _wait_as_spare() -> Path:
    """Everything is imported before the wait, so that becoming a node takes no longer than a connection."""
    import asyncio  # noqa: F401

    import clusterctl_runtime.agent.node  # noqa: F401

    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)  # the host's daemon is gone: its next one has a spare of its own
    order = json.loads(line)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ["CLUSTERCTL_INSTANCE"] = order["instance"]
    return Path(order["bootstrap"])


def _serve(bootstrap_file: Path, boot_id: str, watchdog: object, version: str) -> int:
    import asyncio
    import logging

    from clusterctl_runtime.agent.directory import DirectoryInUse, NodeDirectory, node_path
    from clusterctl_runtime.agent.node import Node
    from clusterctl_runtime.agent.tasks.environ import state_environment
    from clusterctl_runtime.wire import Bootstrap

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        bootstrap = Bootstrap.from_json(json.loads(bootstrap_file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        print(f"{bootstrap_file} is not a bootstrap document: {error}", file=sys.stderr)
        return 2
    try:
        state_environment(os.environ, of_image=bootstrap.of_image)
        directory = NodeDirectory(node_path(bootstrap))
    except (OSError, DirectoryInUse) as error:
        print(f"the node's directory cannot be used: {error}", file=sys.stderr)
        return 5

    async def live() -> int:
        return await Node(bootstrap, directory, boot_id, watchdog, version).run()  # type: ignore[arg-type]

    return asyncio.run(live())


if __name__ == "__main__":
    run()
