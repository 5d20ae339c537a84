"""A stand-in for Google Cloud in this process: strict, over real HTTP, driven by Google's own Discovery documents.

    with GcpCloud() as cloud, cloud.credentials():
        cloud.world.capacity["*/us-central1-a/spot"] = 0
        instances = cloud.client("compute", "v1").instances()

A service is at `{url}/SERVICE.googleapis.com/...`. `cloud.services` takes more of them (`gcp_services`).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google.auth.credentials
from clusterctl_providers.gcp.login import ask_nobody_else
from google.oauth2 import service_account
from googleapiclient import discovery

from tests.cloud.gcp import permissions as gcp_permissions
from tests.cloud.gcp import tokens as gcp_tokens
from tests.cloud.gcp.addresses import Addresses
from tests.cloud.gcp.billing import Billing
from tests.cloud.gcp.bulk import Bulk
from tests.cloud.gcp.capacity import Capacity
from tests.cloud.gcp.catalog import Catalog
from tests.cloud.gcp.changes import Changes
from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.disks import Disks
from tests.cloud.gcp.federation import Federation
from tests.cloud.gcp.firewalls import Firewalls
from tests.cloud.gcp.front import Front
from tests.cloud.gcp.iap import Iap
from tests.cloud.gcp.identity import OWNER, Rights
from tests.cloud.gcp.images import Images
from tests.cloud.gcp.instance import Instance
from tests.cloud.gcp.instances import COSTING, Instances
from tests.cloud.gcp.launch import Launches
from tests.cloud.gcp.networks import Networks
from tests.cloud.gcp.oslogin import OsLogin
from tests.cloud.gcp.policies import Policies
from tests.cloud.gcp.power import Power
from tests.cloud.gcp.project import Project
from tests.cloud.gcp.quotas import Quotas
from tests.cloud.gcp.reservations import Reservations
from tests.cloud.gcp.services import Services
from tests.cloud.gcp.store import key_of_link
from tests.cloud.gcp.tokens import Account, Tokens
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER, World
from tests.cloud.wire import Listeners
from tests.cloud.world import Fault

ADMIN = f"admin@{PROJECT}.iam.gserviceaccount.com"
DEFAULT_ACCOUNT = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_ENVIRONMENT = (
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CONFIG",
    "CLOUDSDK_CORE_PROJECT", "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP", "NO_GCE_CHECK",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
)  # fmt: skip


class GcpCloud:
    def __init__(self, cidr: str = "") -> None:
        """`cidr`: what the default network's subnetworks are parts of, instead of 10.128.0.0/9."""
        self.world = World()
        self.tokens = Tokens(self.world)
        self.services = Services()
        self.compute = compute = Compute(self.world)
        for email in (ADMIN, DEFAULT_ACCOUNT):
            self.world.accounts[email] = Account(email, compute.store.number())
        self.quotas = Quotas(self.world, compute.store)
        self.networks = Networks(compute, cidr)
        self.images = Images(compute)
        self.disks = Disks(compute, self.images)
        reservations = Reservations(compute)
        launches = Launches(compute, self.disks, self.images, self.networks, reservations)
        capacity = Capacity(self.world, self.quotas, reservations)
        self._instances = Instances(compute, launches, self.disks, self.networks, capacity)
        self.power = Power(compute, self._instances)
        for part in (
            Catalog(self.world, self.quotas), self.networks, self.images, self.disks, self._instances, self.power,
            Bulk(compute, self._instances, launches), Changes(compute, self._instances, self.disks),
            Firewalls(compute), Addresses(compute, self.networks), Policies(compute), reservations,
        ):  # fmt: skip
            compute.add(part)
        self.services.add(compute.service(gcp_permissions.needs))
        self.billing = Billing()
        self.services.add(self.billing.service())
        self.services.add_plain(gcp_tokens.HOST, self.tokens.answer)
        self.rights = Rights(self.world, self.tokens)
        self.rights.grant(ADMIN, OWNER)
        self.iap = Iap(self.world, self.tokens, self._machine, lambda: compute.store.every("firewalls"))
        self.federation = Federation(self.tokens)
        self.os_login = OsLogin(self.world, self.tokens)
        for service in (self.rights, Project(self.world, self.rights), self.iap, self.federation, self.os_login):
            service.install(self.services)
        self._listeners = Listeners(Front(self.world, self.services, self.tokens), self.world, "gcp")
        self._built_in = set(self._keys())
        self.url = self.listen("127.0.0.1")

    def __enter__(self) -> GcpCloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Whoever used it must have made requests that Google's own documents allow, and no other."""
        broken = [*self.world.violations]
        self.close()
        assert kind is not None or not broken, broken

    def close(self) -> None:
        self.world.listeners.clear()
        self._listeners.close()

    def listen(self, address: str) -> str:
        """At one more address of this host. Returns the URL."""
        return self._listeners.listen(address)

    # ------------------------------------------------------------ who calls

    def add_account(self, name: str, *permissions: str) -> dict[str, str]:
        """A service account that may do these (without any: everything), and the JSON file of its key."""
        email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
        account = self.world.accounts.get(email)
        if account is None:
            account = self.world.accounts[email] = Account(email, self.compute.store.number())
            if permissions:
                self.rights.allow(email, permissions)
            else:
                self.rights.grant(email, OWNER)
        return gcp_tokens.make_key(account, self.url)

    @contextlib.contextmanager
    def credentials(self, key: dict[str, str] | None = None) -> Iterator[Path]:
        """In the environment: application-default credentials by this key file (else the administrator's), and no other way to
        credentials. Yields the file."""
        before = {name: os.environ.pop(name, None) for name in _ENVIRONMENT}
        with tempfile.TemporaryDirectory(prefix="gcp-") as directory:
            file = Path(directory) / "key.json"
            file.write_text(json.dumps(key or self.add_account("admin")))
            file.chmod(0o600)
            os.environ.update(GOOGLE_APPLICATION_CREDENTIALS=str(file), CLOUDSDK_CONFIG=directory, NO_GCE_CHECK="true")
            try:
                yield file
            finally:
                for name, value in before.items():
                    os.environ.pop(name, None)
                    if value is not None:
                        os.environ[name] = value

    def signed_in(self, key: dict[str, str] | None = None) -> google.auth.credentials.Credentials:
        """Google's own credentials object for a key file (else the administrator's)."""
        found: Any = service_account.Credentials
        credentials = found.from_service_account_info(key or self.add_account("admin"), scopes=[CLOUD_PLATFORM])
        ask_nobody_else(credentials)
        return credentials

    def client(self, name: str = "compute", version: str = "v1", key: dict[str, str] | None = None) -> Any:
        """Google's own client of a service: its calls are in the log like everybody's."""
        document = next(s.document for s in self.services.by_host.values() if s.document.name == f"{name}.{version}")
        endpoint = f"{self.url}/{document.service}{document.base}"
        return discovery.build(
            name, version, credentials=self.signed_in(key), static_discovery=True, cache_discovery=False,
            client_options={"api_endpoint": endpoint},
        )  # fmt: skip

    # ------------------------------------------------------------ what happens

    def fault(self, action: str, effect: str = "error", **more: Any) -> Fault:
        """`action`: a method such as compute.instances.insert. Effect "operation": the call is accepted, and its operation ends
        in the error."""
        fault = Fault(action, effect, **{"code": "backendError", **more})
        self.world.faults.append(fault)
        return fault

    def preempt(self, id_: str) -> None:
        """Google takes a spot machine back: ZONE/NAME, or its number."""
        self._happens(self.power.preempt, id_)

    def warn(self, id_: str) -> None:
        """Its machine is told that its host will be taken out of service."""
        self._happens(self.power.warn, id_)

    def maintain(self, id_: str) -> None:
        """Its host is taken out of service."""
        self._happens(self.power.maintain, id_)

    def host_error(self, id_: str) -> None:
        self._happens(self.power.host_error, id_)

    def vanish(self, id_: str) -> None:
        """It is gone without a trace, as if somebody had deleted it long ago."""
        self._happens(self._instances.vanish, id_)

    def shut_down(self, id_: str) -> None:
        """Its machine has turned itself off."""
        self._happens(self.power.shut_down, id_)

    def _happens(self, what: Callable[[Instance], None], id_: str) -> None:
        with self.world.lock:
            self.compute.advance()
            what(self.instance(id_))
            self.compute.advance()

    # ------------------------------------------------------------ the truth, which no delay hides

    def instances(self, *states: str) -> list[Instance]:
        """By default those that cost something."""
        with self.world.lock:
            self.compute.advance()
            return [i for i in self._instances.by_key.values() if i.status in (states or COSTING)]

    def instance(self, id_: str) -> Instance:
        """By ZONE/NAME or by its number."""
        return next(i for i in self._instances.by_key.values() if id_ in (i.handle, i.id))

    def leftovers(self) -> list[str]:
        """Paths of all that someone made here and did not remove."""
        with self.world.lock:
            self.compute.advance()
            return sorted({*self._keys(), *self.rights.leftovers(), *self.os_login.keys()} - self._built_in)

    @property
    def device_names(self) -> dict[str, str]:
        """Id of an attached disk -> the name by which its machine sees it."""
        return self._instances.device_names

    def labels(self, path: str) -> dict[str, str]:
        """`path`: such as zones/us-central1-a/disks/d."""
        return dict(self.compute.store.get(f"projects/{PROJECT}/{path}").get("labels", {}))

    def _machine(self, zone: str, name: str) -> tuple[str, dict[str, Any]] | None:
        """Where a running instance is, and what it looks like."""
        found = [i for i in self.instances("RUNNING") if (i.zone, i.name) == (zone, name)]
        return (found[0].address, found[0].body) if found else None

    def _keys(self) -> list[str]:
        return [
            key_of_link(resource["selfLink"]).removeprefix(f"projects/{PROJECT}/")
            for resource in self.compute.store.everything()
            if resource["kind"] != "compute#operation"
        ]
