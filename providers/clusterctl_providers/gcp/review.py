"""What a spec names and Google Cloud does not have (`base.HasReview`): project, region, network, service accounts, zones, machine
types with their devices, images. Each is looked up by the part that will need it, whose sentence is told with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers import catalog
from clusterctl_providers.base import Objection, PoolRequest
from clusterctl_providers.cloud.review import image_kinds, nearest, tried
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import DISABLED, is_missing, reason_behind, status_behind
from clusterctl_providers.gcp.images.lookup import Images
from clusterctl_providers.gcp.machines.accelerators import machine_of
from clusterctl_providers.gcp.market.market import GceMarket
from clusterctl_providers.gcp.network.network import Network

ACCOUNTS = ("service_account", "worker_service_account")
_MADE = ("", "auto")  # no account of the user's


class Review:
    def __init__(
        self, calls: Calls, settings: Mapping[str, Any], network: Network, market: GceMarket, images: Images
    ) -> None:
        self._calls, self._settings = calls, settings
        self._network, self._market, self._images = network, market, images

    def of(self, pools: Sequence[PoolRequest]) -> list[Objection]:
        """Where the project or the region is wrong, nothing else can be looked up there, and is not."""
        if hidden := self._project() or tried("region", self._network.zones):
            return [hidden]
        wrong = [tried("subnet" if self._settings.get("subnet") else "network", self._network.subnet)]
        wrong += [self._account(key) for key in ACCOUNTS]
        found = [one for one in wrong if one is not None]
        for pool in pools:
            found += [*self._zones(pool), *self._types(pool), *self._image(pool)]
        return found

    def _project(self) -> Objection | None:
        """Of a project that one may not see Google says the same as of one that is not there. Whoever only lacks the permission
        to read it is told what he may there, when he asks."""
        project = self._calls.project
        try:
            return tried("project", lambda: self._calls.get("", f"looking up the project {project}"))
        except AuthFailed as error:
            if not _is_hidden(error):
                raise
        body = {"permissions": ["resourcemanager.projects.get"]}
        what = f"asking what one may in the project {project}"
        try:
            self._calls.ask("POST", f"v3/projects/{project}:testIamPermissions", what, body, "cloudresourcemanager")
        except AuthFailed as error:
            if _is_hidden(error):
                text = f"Google Cloud has no project {project!r}, or these credentials may not see it"
                return Objection("", "project", "", text, "`gcloud projects list` names yours")
        except ProviderError:
            pass  # the next calls will say what is in the way
        return None

    def _account(self, key: str) -> Objection | None:
        """Who may not look at service accounts is not told of one."""
        name = str(self._settings.get(key) or "")
        if name in _MADE:
            return None
        email = name if "@" in name else f"{name}@{self._calls.project}.iam.gserviceaccount.com"
        what = f"looking for the service account {email}"
        try:
            self._calls.get(f"v1/projects/-/serviceAccounts/{email}", what, "iam")
        except AuthFailed:
            return None
        except BadRequest as error:
            fix = "make it (`gcloud iam service-accounts create`), or leave the setting out"
            return Objection(
                "", key, name, f"there is no service account {email}" if is_missing(error) else str(error), fix
            )
        return None

    def _zones(self, pool: PoolRequest) -> Iterator[Objection]:
        known = self._network.zones()
        for zone in pool.spec.get("zones") or ():
            if zone not in known:
                fix = f"{self._calls.region} has {', '.join(known)}"
                yield Objection(pool.name, "zones", zone, f"Google Cloud has no zone {zone!r}", fix)

    def _types(self, pool: PoolRequest) -> Iterator[Objection]:
        names = [str(name) for name in pool.spec.get("instances") or ()]
        if not names:
            return
        sold, catalogued = self._market.sellers(names), {machine.name for machine in catalog.instance_types("gcp")}
        wanted = [zone for zone in pool.spec.get("zones") or () if zone in self._network.zones()]
        for name in names:
            here = sold[name]
            if not here:
                fix = nearest(name, catalogued, "gcp")
                yield Objection(pool.name, "instances", name, f"{self._calls.region} has no {_described(name)}", fix)
            elif name not in catalogued:
                text = f"{self._calls.region} sells {name}, but the catalogue of this version does not know what it has"
                yield Objection(pool.name, "instances", name, text, nearest(name, catalogued, "gcp"))
            elif wanted and not here & set(wanted):
                text = f"the pool's zones ({', '.join(wanted)}) have no {_described(name)}"
                yield Objection(pool.name, "instances", name, text, f"it is sold in {', '.join(sorted(here))}")

    def _image(self, pool: PoolRequest) -> Iterator[Objection]:
        """For the types that the pool may get: an image is made for one architecture."""
        wanted = str(pool.spec.get("image") or "")
        if not wanted:
            return
        for arch, nvidia in image_kinds("gcp", self._calls.region, pool):
            try:
                self._images.find(wanted, arch, nvidia)
            except BadRequest as error:
                yield Objection(pool.name, "image", wanted, str(error))
                return


def _is_hidden(error: AuthFailed) -> bool:
    return status_behind(error) == 403 and reason_behind(error) not in DISABLED


def _described(name: str) -> str:
    machine = machine_of(name)
    if not machine.count:
        return f"machine type {name!r}"
    return f"machine type {machine.machine_type!r} to which {machine.count} {machine.device} can be attached"
