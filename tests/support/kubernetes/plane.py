"""A control plane of Kubernetes 1.20 on the loopback: etcd, API server, scheduler and controller manager, without root.

    with ControlPlane(tmp_path / "plane") as plane:
        namespace = plane.namespace()
        plane.add_node("gpu-1", cpu="8", memory="64Gi", gpus=4)
        plane.api.create(f"/api/v1/namespaces/{namespace}/pods", pod)

Roles are enforced, TLS is real, admission is the default one (quotas, limit ranges, priorities, service accounts). Nodes are
objects only: pods are bound to them and stay Pending, unless a `Kubelet` (pods.py) says otherwise.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml

from tests.support.cluster import wait_until
from tests.support.kubernetes.api import Api, ApiError, Object
from tests.support.kubernetes.identities import Identities
from tests.support.kubernetes.programs import programs
from tests.support.kubernetes.running import Running, free_ports

ISSUER = "https://kubernetes.default.svc"
FAST = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
)  # what the controllers may ask: 20 a second is for shared servers


class ControlPlane:
    """In `directory`, which it makes. `address`: where the API server listens and what its certificate is for.

    Raises Unavailable (programs.py) where this machine cannot make the programs.
    """

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        directory.mkdir(mode=0o700)
        self.directory, self.address = directory, address
        self.programs = programs()
        self.identities = Identities(directory / "identities")
        self.running = Running(directory)
        self.port, self._etcd, self._peer = free_ports(3, address)
        self.url = f"https://{address}:{self.port}"
        self.audit = directory / "audit.log"
        self._admin = self.identities.issue("admin", user="admin", group="system:masters")
        self.api = Api(self.url, self.identities.trust(self._admin))
        self._numbers = itertools.count(1)

    def __enter__(self) -> ControlPlane:
        try:
            self._start_etcd()
            self._start_server()
            wait_until(self._server_answers, what="the API server is ready")
            self._start_controllers()
            self._start_scheduler()
            self._wait_for_account("default")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.api.close()
        self.running.stop()

    # ------------------------------------------------------------ what tests ask for

    def kubeconfig(self, namespace: str = "default") -> Path:
        """Of one who may do everything; its context is called `test`."""
        return self.identities.kubeconfig(f"admin-{namespace}", self.url, self._admin, namespace)

    def kubeconfig_of(
        self, namespace: str, rules: Sequence[Mapping[str, Any]], everywhere: Sequence[Mapping[str, Any]] = ()
    ) -> Path:
        """Of a service account of this namespace that has these rules of a Role, and `everywhere` those of a ClusterRole."""
        name = f"account-{next(self._numbers)}-{uuid.uuid4().hex[:6]}"
        place = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.api.create(place, {"metadata": {"name": name}})
        self._grant(name, namespace, rules)
        if everywhere:
            self._grant(name, namespace, everywhere, cluster=True)
        token = self.api.create(f"{place}/{name}/token", {"spec": {"expirationSeconds": 3600 * 12}})["status"]["token"]
        return self.identities.kubeconfig(name, self.url, {"token": token}, namespace)

    def api_of(self, kubeconfig: Path) -> Api:
        """As whom a file of `kubeconfig_of` names."""
        token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
        return Api(self.url, self.identities.trust(), token)

    def namespace(self, prefix: str = "test") -> str:
        """A new one that pods can be made in."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self._wait_for_account(name)
        return name

    def add_node(
        self,
        name: str,
        *,
        cpu: str = "4",
        memory: str = "16Gi",
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        resources: Mapping[str, str] | None = None,
    ) -> None:
        """A node that is only an object, ready for pods. `taints`: {key, value, effect}; `resources`: others that it has."""
        self.api.create("/api/v1/nodes", _node(name, cpu, memory, gpus, labels or {}, taints, resources or {}))
        wait_until(lambda: self._is_schedulable(name), what=f"node {name} takes pods")

    def remove_node(self, name: str) -> None:
        self.api.delete(f"/api/v1/nodes/{name}")

    # ------------------------------------------------------------ its parts

    def _start_etcd(self) -> None:
        client, peer = (f"http://{self.address}:{port}" for port in (self._etcd, self._peer))
        self.running.start(
            "etcd",
            [
                str(self.programs / "etcd"), "--unsafe-no-fsync", "--data-dir", str(self.directory / "etcd"),
                *("--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer),
                *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
            ],
        )  # fmt: skip

    def _start_server(self) -> None:
        certificate, key = self.identities.issue("server", self.address, "localhost", "kubernetes", "10.0.0.1")
        _, accounts = self.identities.issue("accounts")
        to_kubelet, its_key = self.identities.issue("to-kubelet", user="to-kubelet", group="system:masters")
        authority = str(self.identities.authority)
        options = {
            "etcd-servers": f"http://{self.address}:{self._etcd}",
            "bind-address": self.address,
            "advertise-address": self.address,  # it would look for a default route
            "secure-port": str(self.port),
            "endpoint-reconciler-type": "none",  # no server of a cluster is on the loopback
            "service-cluster-ip-range": "10.0.0.0/24",
            "authorization-mode": "Node,RBAC",
            "allow-privileged": "true",
            "client-ca-file": authority,
            "tls-cert-file": str(certificate),
            "tls-private-key-file": str(key),
            "service-account-issuer": ISSUER,
            "service-account-key-file": str(accounts),
            "service-account-signing-key-file": str(accounts),
            "kubelet-certificate-authority": authority,
            "kubelet-client-certificate": str(to_kubelet),
            "kubelet-client-key": str(its_key),
            "kubelet-preferred-address-types": "InternalIP",
            "audit-policy-file": str(self._audit_policy()),
            "audit-log-path": str(self.audit),
            "cert-dir": str(self.directory),
        }
        self._start("kube-apiserver", options)

    def _audit_policy(self) -> Path:
        """Of service accounts it is written down which verbs they use, and of nobody else."""
        path = self.directory / "audit-policy.json"
        rules = [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ]
        stages = ["RequestReceived", "ResponseStarted"]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": stages, "rules": rules}
        path.write_text(json.dumps(policy))
        return path

    def verbs_of(self, account: str) -> set[tuple[str, str, str]]:
        """(group, resource with its subresource, verb) of what a service account, "NAMESPACE:NAME", asked for so far."""
        user, found = f"system:serviceaccount:{account}", set[tuple[str, str, str]]()
        for line in self.audit.read_text().splitlines():
            event = json.loads(line)
            if event["user"]["username"] == user and (thing := event.get("objectRef")):
                resource = "/".join(filter(None, (thing["resource"], thing.get("subresource"))))
                found.add((thing.get("apiGroup", ""), resource, event["verb"]))
        return found

    def _start_controllers(self) -> None:
        options = {
            "kubeconfig": str(self._kubeconfig_of_part("kube-controller-manager")),
            "use-service-account-credentials": "true",
            "service-account-private-key-file": str(self.identities.directory / "accounts.key"),
            "root-ca-file": str(self.identities.authority),
            "leader-elect": "false",
            "port": "0",
            "secure-port": "0",
            "node-monitor-grace-period": "24h",  # nodes that are only objects send no sign of life
            "cert-dir": str(self.directory),
        }
        self._start("kube-controller-manager", options)

    def _start_scheduler(self) -> None:
        options = {
            "kubeconfig": str(self._kubeconfig_of_part("kube-scheduler")),
            "leader-elect": "false",
            "port": "0",
            "secure-port": "0",
            "cert-dir": str(self.directory),
        }
        self._start("kube-scheduler", options)

    def _start(self, program: str, options: Mapping[str, str]) -> None:
        fast = () if program == "kube-apiserver" else FAST
        self.running.start(
            program, [str(self.programs / program), *(f"--{key}={value}" for key, value in options.items()), *fast]
        )

    def _kubeconfig_of_part(self, name: str) -> Path:
        return self.identities.kubeconfig(name, self.url, self.identities.issue(name, user=f"system:{name}"))

    # ------------------------------------------------------------ looking

    def _server_answers(self) -> bool:
        self.running.all_run()
        try:
            return self.api.text("/readyz") == "ok"
        except httpx.TransportError:
            return False
        except ApiError as error:
            if error.code < 500:
                raise
            return False

    def _wait_for_account(self, namespace: str) -> None:
        """A pod is refused until its namespace has a service account with a token: the controllers make both."""

        def has_token() -> bool:
            self.running.all_run()
            try:
                account = self.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
            except ApiError as error:
                if error.code != 404:
                    raise
                return False
            return bool(account.get("secrets"))

        wait_until(has_token, what=f"{namespace} has a service account")

    def _is_schedulable(self, name: str) -> bool:
        """A new node is tainted until the controllers have looked at it."""
        taints = self.api.get(f"/api/v1/nodes/{name}")["spec"].get("taints", [])
        return not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)

    def _grant(
        self, account: str, namespace: str, rules: Sequence[Mapping[str, Any]], *, cluster: bool = False
    ) -> None:
        group = "/apis/rbac.authorization.k8s.io/v1"
        place, kind = (group, "ClusterRole") if cluster else (f"{group}/namespaces/{namespace}", "Role")
        resource = kind.lower()
        self.api.create(f"{place}/{resource}s", {"metadata": {"name": account}, "rules": list(rules)})
        binding = {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }
        self.api.create(f"{place}/{resource}bindings", binding)


def _node(
    name: str,
    cpu: str,
    memory: str,
    gpus: int,
    labels: Mapping[str, str],
    taints: Sequence[Mapping[str, str]],
    resources: Mapping[str, str],
) -> Object:
    has = {"cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "200Gi", **resources}
    if gpus:
        has["nvidia.com/gpu"] = str(gpus)
    names = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "metadata": {"name": name, "labels": {**names, **labels}},
        "spec": {"taints": [dict(taint) for taint in taints]},
        "status": {
            "capacity": has,
            "allocatable": has,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "Hostname", "address": name}],
        },
    }
