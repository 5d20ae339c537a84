"""The machines of a cluster that are reached by SSH, as the last `up` found them: `inventory.json` in the cluster's directory.

Logins and names only, no secret: `down` and the tunnel need them when the spec's file is changed or gone. Which of them were
ever written to is on file before the first write, so that `down` asks nothing of the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.registry import known_of, machine_of, read_json
from clusterctl.core.errors import Unreachable
from clusterctl.provision.ssh.inventory import Login, Machine

if TYPE_CHECKING:
    from clusterctl.provision.ssh.hosts import Hosts

FILE = "inventory.json"


def save_machines(
    directory: Path, machines: Iterable[Machine], options: dict[str, Any], touched: Iterable[str] | None = None
) -> None:
    """`options`: the SSH configuration and the policy for host keys. Machines that left the spec stay until they are clean.
    `touched`: ids of those that may hold something of the cluster, None: all."""
    document: dict[str, Any] = {"options": options, "machines": [asdict(machine) for machine in machines]}
    if touched is not None:
        document["touched"] = sorted(touched)
    text = json.dumps(document, indent=1)
    path = directory / FILE
    if not path.exists() or path.read_text() != text:
        write_private(path, text)


def saved_machines(directory: Path) -> list[Machine]:
    """As `save_machines` wrote them; none where it never did."""
    return [
        Machine(
            item["id"], Login(**item["login"]), tuple(item["pools"]), item["head"], item["labels"], item["resources"]
        )
        for item in read_json(directory / FILE).get("machines", [])
    ]


def touched_machines(directory: Path) -> set[str]:
    """Ids of the machines that may hold something of the cluster."""
    saved = read_json(directory / FILE)
    known = {str(item["id"]) for item in saved.get("machines", [])}
    return known & set(saved["touched"]) if "touched" in saved else known


def note_touched(directory: Path, touched: Iterable[str]) -> None:
    """The same machines, of which these may hold something now."""
    save_machines(directory, saved_machines(directory), read_json(directory / FILE).get("options", {}), touched)


def head_machine(directory: Path) -> Machine:
    """Raises Unreachable where it is not known which it is."""
    for machine in saved_machines(directory):
        if machine.head:
            return machine
    raise Unreachable("it is not known here which machine is the head: `clusterctl up SPEC` finds out")


def open_hosts(directory: Path, tell: Callable[[str], None], machines: Iterable[Machine] | None = None) -> Hosts:
    """The hosts of a cluster that is known here, ready to be connected to."""
    from clusterctl.provision.ssh.hosts import Hosts

    cluster, saved = known_of(directory), read_json(directory / FILE)
    return Hosts(
        cluster["name"],
        cluster["uid"],
        saved_machines(directory) if machines is None else machines,
        known_hosts(directory),
        tell,
        **saved.get("options", {}),
    )


def known_hosts(directory: Path) -> Path:
    """Where host keys are remembered, for OpenSSH too: those of instances, which come and go with the cluster, beside it."""
    on_hosts = machine_of(known_of(directory)) == "host"
    return (directory.parent.parent if on_hosts else directory) / "known_hosts"
