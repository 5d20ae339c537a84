"""The head on a machine reached by SSH: its packages, its files and its daemon. The same for a host of an inventory and for
an instance of a cloud."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from clusterctl.client.head import tunnels
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh import distribution
from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Bundle, Hosts, Reached

HEAD_SECONDS = 60.0


@dataclass(frozen=True)
class Installed:
    """A head that listens. `new`: it started from the spec that this `up` wrote."""

    agent_port: int
    ca_pem: str
    new: bool
    tunnel: subprocess.Popen[bytes] | None


@dataclass
class HeadInstall:
    """`extras`: those of our package that the head needs there, such as a cloud's."""

    cluster: Cluster
    cache: Path
    bundle: Bundle
    tell: Callable[[str], None]
    extras: tuple[str, ...] = ()

    def begin(self) -> None:
        """Makes the packages while nobody waits for them yet."""
        distribution.build_ahead(self.cache, self.extras)

    def put(
        self,
        hosts: Hosts,
        reached: Reached,
        first: Mapping[str, str],
        every: Mapping[str, str] | None = None,
        restart_for: Set[str] = frozenset(),
    ) -> Installed:
        """Returns when it listens. `first` are files that it starts from, and keeps once it has them; `every` are those that
        each `up` writes anew, of which a running head reads some only when it is started again. Raises HostTrouble."""
        connection, facts = reached.connection, reached.facts
        assert connection is not None
        dist = self._place_packages(hosts, reached)
        new = not facts["head_config"]
        if new or "head" not in facts["kept"]:
            self.tell(f"starting the head of cluster {self.cluster.name} on {reached.id}")
        connection.ask({**hosts.owner, "do": "place_files", "files": dict(first), "keep": True})
        changed: list[str] = []
        if every:
            changed = connection.ask({**hosts.owner, "do": "place_files", "files": dict(every)})["changed"]
        blob = b"" if self.bundle.name in facts["bundles"] else self.bundle.data
        restart = not new and not restart_for.isdisjoint(changed)
        request = {**hosts.owner, "do": "install", "bundle": self.bundle.digest, "head": dist, "restart_head": restart}
        replaced = connection.ask(request, blob)["replaced"]
        facts["bundles"].append(self.bundle.name)
        tunnel = tunnels.begin(self.cluster)
        wait = {"do": "wait_head", "seconds": HEAD_SECONDS, "not_pid": replaced}
        answer = connection.ask(wait, timeout=HEAD_SECONDS + 10)
        if answer.get("error"):
            raise HostTrouble("no_head", answer["error"])
        if "head" not in answer:
            raise HostTrouble(
                "no_head", f"the head was started there and does not listen. The end of its log:\n{answer['log']}"
            )
        return Installed(int(answer["head"]["agent_port"]), answer["ca_pem"], new, tunnel)

    def _place_packages(self, hosts: Hosts, reached: Reached) -> str:
        """Returns the name of their directory there."""
        connection, facts = reached.connection, reached.facts
        assert connection is not None
        others = None if distribution.fits(facts) else self._other_packages(reached)
        dist = distribution.build(self.cache, extras=self.extras, others=others)
        if dist.name not in facts["dists"]:
            self.tell(f"the head's packages go to {reached.id} ({len(dist.archive) / 2**20:.1f} MiB)")
            request = {**hosts.owner, "do": "place_dist", "dist": dist.name}
            connection.ask(request, dist.archive, timeout=1200)
        return dist.name

    def _other_packages(self, reached: Reached) -> Path:
        """Those for another Python than this one. Raises HostTrouble where they cannot be had."""
        from clusterctl.client.up.foreign_packages import packages_for

        facts = reached.facts
        what = f"Python {facts['python_minor']} on {facts['machine']}"
        self.tell(f"{reached.id} has {what}: getting the head's packages for it")
        try:
            return packages_for(facts, self.cache, self.extras)
        except ClusterctlError as error:
            mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise HostTrouble(
                "no_packages",
                f"it has {what}, this machine Python {mine}, and {error}. Use the same Python on both, or "
                "give this machine a way to the package index",
            ) from error
