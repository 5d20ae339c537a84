"""A stand-in for Azure in this process: strict, over real HTTPS, driven by Microsoft's own packages.

    with AzureCloud() as cloud, cloud.credentials():
        cloud.world.capacity["*/1/spot"] = 0
        machines = cloud.client(ComputeManagementClient).virtual_machines

Azure Resource Manager and the token endpoint are both at `cloud.url`. `cloud.services` takes more (`services`).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import trustme

from tests.cloud.azure.activity import ActivityLog
from tests.cloud.azure.addresses import Addresses
from tests.cloud.azure.assignments import DEFINITION, OWNER, Rights
from tests.cloud.azure.bastions import Bastions
from tests.cloud.azure.cards import Cards
from tests.cloud.azure.consoles import Consoles
from tests.cloud.azure.disks import Disks
from tests.cloud.azure.front import Front
from tests.cloud.azure.galleries import Galleries
from tests.cloud.azure.graph import Graph
from tests.cloud.azure.groups import Groups
from tests.cloud.azure.identities import Identities
from tests.cloud.azure.locks import Locks
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.marketplace import Marketplace
from tests.cloud.azure.networks import Networks
from tests.cloud.azure.operations import Operations
from tests.cloud.azure.permissions import Permissions
from tests.cloud.azure.placements import Placements
from tests.cloud.azure.policies import Policies
from tests.cloud.azure.power import Power
from tests.cloud.azure.resources import Resources
from tests.cloud.azure.retail import Retail
from tests.cloud.azure.rules import Rules
from tests.cloud.azure.services import Services
from tests.cloud.azure.sources import Sources
from tests.cloud.azure.store import Resource, Store
from tests.cloud.azure.subscriptions import Subscriptions
from tests.cloud.azure.tokens import Application, Tokens
from tests.cloud.azure.vms import Vms
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, World
from tests.cloud.wire import Listeners
from tests.cloud.world import Fault

Client = TypeVar("Client")
_ENVIRONMENT = (
    "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST", "AZURE_SUBSCRIPTION_ID",
    "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_USERNAME", "AZURE_PASSWORD", "AZURE_CONFIG_DIR",
    "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE",
)  # fmt: skip


class AzureCloud:
    def __init__(self) -> None:
        self.world = World()
        self.services = Services()
        self.store = Store(self.world)
        self.operations = Operations(self.world, self.store)
        self.locks = Locks(self.store)
        self.tokens = Tokens(self.world, self.services)
        self.resources = Resources(self.world, self.store, self.operations, self.services, self.locks)
        self.groups = Groups(
            self.world, self.store, self.operations, self.services, self.resources, self.locks
        )  # fmt: skip
        Subscriptions(self.world, self.services)
        self._add_network()
        self._add_compute()
        self.retail = Retail(self.world, self.services)
        self.clocks: list[Callable[[], None]] = [self.operations.advance, self.power.advance]  # what time moves on
        self.admin = self.tokens.add("admin")
        self.identities = Identities(self.world, self.services, self.tokens)
        self.rights = Rights(
            self.world, self.services, self.store, self.resources, self.tokens, self.identities
        )  # fmt: skip
        self.rights.give(self.admin.principal, OWNER)
        Permissions(self.world, self.services, self.store, self.resources, self.rights)
        self.policies = Policies(self.world, self.services, self.store, self.resources)
        self._authority = trustme.CA()
        front = Front(self.world, self.services, self.tokens, self.resources, self.operations, self.advance)
        self._listeners = Listeners(front, self.world, "azure", self._tls())
        self._files = tempfile.TemporaryDirectory(prefix="azure-")
        self.ca_file = Path(self._files.name) / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self._built_in = {r["id"] for r in self.store.everything()}
        self.url = self.listen("127.0.0.1")

    def _add_network(self) -> None:
        self.networks = Networks(self.store, self.services)
        self.addresses = Addresses(self.store, self.services)
        self.cards = Cards(self.world, self.store, self.services, self.networks.subnets)
        Rules(self.store, self.services)
        Bastions(self.store, self.services)

    def _add_compute(self) -> None:
        world, store, services, operations = self.world, self.store, self.services, self.operations
        self.galleries = Galleries(world, store, services)
        self.marketplace = Marketplace(world)
        self.marketplace.install(services)
        disks = Disks(world, store, services)
        sources = Sources(store, self.marketplace, self.galleries)
        self._vms = Vms(world, store, services, self.resources, self.cards, self.addresses, disks, sources)
        Placements(store, services, self._vms.capacity)
        self.galleries.is_generalized = lambda link: self._vms.named(link).generalized
        self.power = Power(world, store, operations, services, self._vms, disks, self.resources.forget)
        self.consoles = Consoles(world, services, self._vms)
        Graph(world, store, services, self.resources, self._vms)
        self.activity = ActivityLog(world, store, services, self.resources, self.tokens)

    def __enter__(self) -> AzureCloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Whoever used it must have made requests that Microsoft's packages allow, and no other."""
        broken = [*self.world.violations]
        self.close()
        assert kind is not None or not broken, broken

    def close(self) -> None:
        self.world.listeners.clear()
        self._listeners.close()
        self._files.cleanup()

    @property
    def url(self) -> str:
        """Where it is called now."""
        return self.tokens.url

    @url.setter
    def url(self, url: str) -> None:
        self.tokens.url = url

    def listen(self, address: str) -> str:
        """At one more address of this host. Returns the URL."""
        url = self._listeners.listen(address)
        self.tokens.urls.add(url)
        return url

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1", "localhost", "*.azure.test", *_addresses()).configure_cert(context)
        return context

    def advance(self) -> None:
        """What is due happens."""
        with self.world.lock:
            for clock in self.clocks:
                clock()

    # ------------------------------------------------------------ who calls

    @contextlib.contextmanager
    def credentials(self, application: Application | None = None) -> Iterator[Path]:
        """In the environment: an application's secret (else the administrator's), no other way to credentials, and the authority
        by which the stand-in's certificate is known. Yields a directory for files of the test."""
        application = application or self.admin
        before = {name: os.environ.pop(name, None) for name in _ENVIRONMENT}
        with tempfile.TemporaryDirectory(prefix="azure-") as directory:
            os.environ.update(
                AZURE_TENANT_ID=TENANT, AZURE_CLIENT_ID=application.principal.client_id, AZURE_SUBSCRIPTION_ID=SUBSCRIPTION,
                AZURE_CLIENT_SECRET=next(iter(application.secrets)), AZURE_AUTHORITY_HOST=self.url,
                AZURE_CONFIG_DIR=directory, REQUESTS_CA_BUNDLE=str(self.ca_file),
            )  # fmt: skip
            try:
                yield Path(directory)
            finally:
                for name, value in before.items():
                    os.environ.pop(name, None)
                    if value is not None:
                        os.environ[name] = value

    def credential(self, application: Application | None = None) -> Any:
        """azure-identity's own credential of an application (else the administrator's)."""
        from azure.identity import ClientSecretCredential

        application = application or self.admin
        return ClientSecretCredential(
            TENANT, application.principal.client_id, next(iter(application.secrets)), authority=self.url,
            disable_instance_discovery=True, connection_verify=str(self.ca_file),
        )  # fmt: skip

    def client(self, make: Callable[..., Client], application: Application | None = None) -> Client:
        """One of Microsoft's own clients, such as azure.mgmt.compute.ComputeManagementClient: its calls are in the log like
        everybody's."""
        needs_subscription = "subscription_id" in make.__init__.__code__.co_varnames  # type: ignore[misc]
        return make(
            self.credential(application), *([SUBSCRIPTION] if needs_subscription else []), base_url=self.url,
            credential_scopes=[f"{self.url}/.default"], connection_verify=str(self.ca_file), polling_interval=0.02,
            retry_total=0,
        )  # fmt: skip

    # ------------------------------------------------------------ what happens

    def fault(self, operation: str, effect: str = "error", **more: Any) -> Fault:
        """`operation`: such as virtualMachines.createOrUpdate. Effect "operation": the call is accepted, and what it began
        ends in the error."""
        fault = Fault(operation, effect, **{"code": "InternalServerError", **more})
        self.world.faults.append(fault)
        return fault

    def evict(self, id_: str) -> None:
        """Azure takes a spot machine back: by its name, or its id."""
        self.activity.evicted(self.machine(id_).resource["id"])
        self._happens(self.power.evict, id_)

    def announce(self, id_: str, kind: str = "Redeploy", seconds: float = 600.0) -> None:
        """Its machine is told of an event (Redeploy, Freeze, Reboot, Terminate)."""
        self._happens(lambda machine: self.power.announce(machine, kind, seconds), id_)

    def confirm(self, id_: str, event: str) -> bool:
        """Its machine says that an event may come at once."""
        with self.world.lock:
            self.advance()
            return self.power.confirm(self.machine(id_), event)

    def shut_down(self, id_: str) -> None:
        """Its machine has turned itself off."""
        self._happens(self.power.shut_down, id_)

    def vanish(self, id_: str) -> None:
        """It is gone without a trace, as if somebody had deleted it long ago."""
        self._happens(lambda machine: self.resources.forget(machine.resource), id_)

    def _happens(self, what: Callable[[Machine], None], id_: str) -> None:
        with self.world.lock:
            self.advance()
            what(self.machine(id_))
            self.advance()

    # ------------------------------------------------------------ the truth, which no delay hides

    def machines(self, *powers: str) -> list[Machine]:
        """All that there are, or those whose power state is one of these."""
        with self.world.lock:
            self.advance()
            return [m for m in self._vms.all() if not powers or m.power in powers]

    def machine(self, id_: str) -> Machine:
        """By its name, the id of its resource, or the one that it has itself."""
        key = id_.lower()
        return next(m for m in self._vms.all() if key in (m.id, m.key, m.name.lower()))

    @property
    def disk_links(self) -> dict[str, str]:
        """uniqueId of an attached disk -> the name below /dev/disk by which its machine sees it."""
        return self._vms.disk_links

    def resource(self, id_: str) -> Resource:
        """By its id, or by what comes after the subscription in it."""
        with self.world.lock:
            self.advance()
            return self.store.get(self._id(id_))

    def exists(self, id_: str) -> bool:
        with self.world.lock:
            self.advance()
            return self.store.find(self._id(id_)) is not None

    def leftovers(self) -> list[str]:
        """Ids, after the subscription, of all that someone made here and did not remove; custom roles stay."""
        with self.world.lock:
            self.advance()
            all_ = self.store.everything()
            made = [r["id"] for r in all_ if r["id"] not in self._built_in and r.get("type") != DEFINITION]
            return sorted(id_.removeprefix(f"/subscriptions/{SUBSCRIPTION}/") for id_ in made)

    def _id(self, id_: str) -> str:
        return id_ if id_.startswith("/") else f"/subscriptions/{SUBSCRIPTION}/{id_}"


def _addresses() -> list[str]:
    """Addresses of this host for its machines (tests.cloud.machines), by which they call the stand-in."""
    return [f"10.{number}.0.1" for number in range(77, 101)]
