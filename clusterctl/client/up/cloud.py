"""`up` for a cluster whose head runs on an instance of its cloud, or in a pod.

    launch the head -> launch the pools' min -> its disk -> a login -> packages and files -> the daemon listens -> the tunnel

The workers' machines boot while the head's does: their bootstrap documents are made here and go to the head with its first
files. Every step finds out what is there before it does anything, so that an `up` that died anywhere is finished by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.down.take_down import make_providers, open_journal
from clusterctl.client.head import process as headprocess
from clusterctl.client.head import tunnels
from clusterctl.client.head.config import config_there, keep_config
from clusterctl.client.nodes.machines import open_hosts
from clusterctl.client.registry import Cluster, Registry, read_note
from clusterctl.client.up.cloud_launch import Launching
from clusterctl.client.up.cloud_login import FirstLogin
from clusterctl.client.up.head_login import HeadLogin
from clusterctl.client.up.install import HeadInstall
from clusterctl.client.up.pod_login import PodLogin
from clusterctl.client.up.way_in import WayIn
from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.core.model import Node
from clusterctl.provision.bootstrap import JOIN_SECRET, JoinSecrets, bootstrap_document
from clusterctl.provision.certs import ensure_certificates
from clusterctl.provision.provisioner import Provisioner
from clusterctl.provision.ssh.connection import HostTrouble
from clusterctl.provision.ssh.hosts import Bundle, Reached
from clusterctl.provision.ssh.inventory import Machine
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.to_core import pool_requests

if TYPE_CHECKING:
    from clusterctl_providers.base import HeadDisk, HeadMachine, PoolRequest

    from clusterctl.client.specfile import SpecFile

AGENT_PORT = 7420
IN_PLACE = "cloud-head.json"  # {"digest"}: what the last `up` that came to its end has put there
_AUTHORITY = ("ca.pem", "ca.key", "head.pem", "head.key", JOIN_SECRET)


class CloudHead:
    """One `up` of one cluster."""

    def __init__(
        self,
        registry: Registry,
        cluster: Cluster,
        source: SpecFile,
        tell: Callable[[str], None],
        patience: float,
        *,
        trial: bool = False,
    ) -> None:
        """`patience`: seconds for its machine to be had and to run. `trial`: this is one of several places."""
        from clusterctl_runtime.agent.bundle import bundle_bytes

        self.cluster, self.source, self.tell, self._patience = cluster, source, tell, patience
        self._trial = trial
        data = bundle_bytes()
        self.bundle = Bundle(hashlib.sha256(data).hexdigest(), data)
        self.new_head = False  # whether the head started from the spec that this `up` wrote
        spec = source.spec
        libraries = [library for name in spec.providers if (library := KINDS[name].library) is not None]
        self._extras = tuple(
            sorted(library.extra for library in libraries)
        )  # its providers are called from the head, too
        self._install = HeadInstall(cluster, registry.home / "cache", self.bundle, tell, self._extras)
        options: dict[str, Any] = {
            "config": "",
            "host_keys": "known_hosts",
            "engine": spec.ray is not None,
            "engine_python": spec.ray.python if spec.ray else "",
        }
        self._login: HeadLogin = (
            PodLogin(cluster, spec.provider_name, options, tell)
            if spec.head_place == "pod"
            else FirstLogin(cluster, spec.auth, WayIn.of(spec), options, tell)
        )
        self._address = ""  # of the head, as its nodes reach it

    # ------------------------------------------------------------ is there anything to do?

    @property
    def digest(self) -> str:
        """Of all that decides what is on the head's machine, but for the spec, which the head itself takes."""
        access = [self.source.spec.provider_settings, asdict(self._head_machine())]
        elsewhere = [self._extras, self._credentials()]
        document = [self.bundle.digest, self.source.spec.auth.model_dump(), access, elsewhere]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def is_in_place(self) -> bool:
        """Whether the last `up` came to its end with just this, and the head answers."""
        if read_note(self.cluster.directory / IN_PLACE).get("digest") != self.digest:
            return False
        return headprocess.answers(self.cluster)

    # ------------------------------------------------------------ doing it

    def bring_up(self) -> None:
        """Returns when the head listens and the tunnel to it is there. Raises ClusterctlError."""
        self._login.check()  # before anything costs money
        ours = self._login.is_begun()
        self._first_files()
        self._install.begin()
        with self._launching() as launching:
            if not ours:
                launching.refuse_anothers()
            node = self._launch(launching)
            launching.keep_place(node)
            launching.renew_access()
            disk = launching.disk(node)
            machine = self._login.machine(node, launching.whereabouts(node))
            machine = self._login.wait(node, machine, lambda: launching.console(node))
            self._put_head(launching, node, machine, disk)
            launching.handed_over(node)
        write_private(self.cluster.directory / IN_PLACE, json.dumps({"digest": self.digest}))

    def _launch(self, launching: Launching) -> Node:
        """The head's node once its machine runs. The workers are launched as soon as its address is known, and again where it
        is lost on the way and its successor has another one."""
        node = launching.accepted()
        while node.address != self._address:
            self._address = node.address
            launching.workers(node)
            node = launching.running()
        return node

    def _put_head(self, launching: Launching, node: Node, machine: Machine, disk: HeadDisk) -> None:
        hosts = open_hosts(self.cluster.directory, self.tell, [machine])
        reached = hosts.look(machine, self.bundle)
        try:
            if reached.trouble is not None:
                raise reached.trouble
            reached, has_state = self._login.with_disk(hosts, reached, self.bundle, disk)
            if has_state and not launching.is_handed_over():
                self.tell(f"the state of an earlier head is on {disk.id}: it goes on from there")
            keys = self._credentials()
            every = {"head/handover.json": launching.hand_over(node, self.bundle.digest), **keys}
            installed = self._install.put(hosts, reached, self._files(reached), every, keys.keys())
            self.new_head = installed.new
            tunnels.tunnel_port(self.cluster, installed.tunnel)
        except HostTrouble as error:
            raise ClusterctlError(f"the head cannot run on {machine.id} ({machine.login.host}): {error}") from error
        finally:
            if reached.connection is not None:
                reached.connection.close()

    # ------------------------------------------------------------ files

    def _first_files(self) -> None:
        """What has to be on disk here before anything is launched: with it `down` can end all, and `up` go on."""
        directory = self.cluster.head_dir
        ensure_certificates(directory, self.cluster.uid)
        JoinSecrets(directory)
        keep_config(self.cluster, self.source.spec, self.source.text)

    def _credentials(self) -> dict[str, str]:
        """Those that the spec has for pools of other providers, as the head keeps them. Raises UsageError."""
        found: dict[str, str] = {}
        for name, given in self.source.spec.head.credentials.items():
            path = self.source.path.absolute().parent / Path(given).expanduser()
            try:
                found[f"head/credentials/{name}"] = path.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                place = ("head", "credentials", name)
                what = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
                raise UsageError(str(self.source.located.fault(place, what))) from error
        return found

    def _files(self, reached: Reached) -> dict[str, str]:
        engine = reached.facts.get("engine") or {}
        files = {f"head/{name}": (self.cluster.head_dir / name).read_text() for name in _AUTHORITY}
        python = str(engine.get("executable") or "")
        files["head/config.json"] = config_there(self.cluster, self.source.spec, self.source.text, python)
        files["head/ports.json"] = json.dumps({"agents": AGENT_PORT})
        return files

    # ------------------------------------------------------------ the provider

    @contextmanager
    def _launching(self) -> Iterator[Launching]:
        spec = self.source.spec
        document = spec.model_dump(mode="json", by_alias=True)
        document["provider"] = {spec.provider_name: dict(spec.provider_settings)}
        document["pools"] = []  # those of other providers the head launches
        document["auth"] = {**document.get("auth", {}), **self._login.auth()}
        cluster, state = self.cluster, str(self.cluster.provider_dir)
        machine, agent = self._head_machine(), str(self._agent_file())
        providers = make_providers(cluster.name, cluster.uid, state, document, machine, agent_bundle=agent)
        with open_journal(cluster, self.tell) as journal:
            journal.acquire(f"clusterctl up (process {os.getpid()})")
            provisioner = Provisioner(
                journal, providers, self._bootstrap, cluster=cluster.name, uid=cluster.uid, clock=time.time,
                pools=self._pool_requests(),
            )  # fmt: skip
            try:
                yield Launching(cluster, spec, journal, provisioner, self.tell, self._patience, self._trial)
            finally:
                provisioner.close()

    def _agent_file(self) -> Path:
        """The agent as a file: some providers bring it to their nodes."""
        path = self.cluster.directory / self.bundle.name
        if not path.exists():
            for old in self.cluster.directory.glob("agent-*.pyz"):
                old.unlink()
            write_private(path, self.bundle.data)
        return path

    def _pool_requests(self) -> list[PoolRequest]:
        from clusterctl_providers.base import PoolRequest

        own, requests = self.source.spec.provider_name, pool_requests(self.source.spec).items()
        mine = {name: spec for name, spec in requests if spec["provider"] in ("", own)}
        return [PoolRequest(name, spec, "head" if name == "head" else "worker") for name, spec in mine.items()]

    def _head_machine(self) -> HeadMachine:
        from clusterctl_providers.base import HeadMachine

        images = {str(pool.spec.get("image") or "") for pool in self._pool_requests()}
        open_to = self.source.spec.head.port_open_to
        machine = HeadMachine(False, images=tuple(sorted(images - {""})), port=AGENT_PORT, open_to=open_to)
        return self._login.head_machine(machine)

    def _bootstrap(self, node: Node, pool: PoolRequest) -> dict[str, Any]:
        """The head's own agent dials its machine, which may be given more than its agent is."""
        directory, is_head = self.cluster.head_dir, node.role == "head"
        if not is_head and not self._address:
            raise ClusterctlError(f"{node.id} cannot be launched before the head has an address")
        document = bootstrap_document(
            self.cluster.name,
            self.cluster.uid,
            node,
            pool,
            heads=[f"{'127.0.0.1' if is_head else self._address}:{AGENT_PORT}"],
            ca_pem=ensure_certificates(directory, self.cluster.uid),
            token=JoinSecrets(directory).join_token(node.id, node.generation),
            bundle=self.bundle.digest,
        )
        return {**document, **self._login.for_bootstrap(node)} if is_head else document
