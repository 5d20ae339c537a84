"""The Docker provider: nodes are containers on a network of their own, and dial the head daemon on this machine.

No container gets the engine's socket, a privilege or a port that others can reach. The container's name follows from the
launch token, so that a create which is made again finds what the first one made and finishes it.

Settings (under `provider: {docker: ...}`): see `DockerSettings` of the spec.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from clusterctl.core.errors import BadRequest, ProviderError, UnknownOutcome
from clusterctl.core.model import Instance, Observed, Offer
from clusterctl_providers.base import (
    OFFERS_LAST,
    TAG_CLUSTER,
    TAG_MAKER,
    TAG_TOKEN,
    TAG_UID,
    CreateRequest,
    CreateResult,
    KeptVolume,
    PoolRequest,
    ProviderContext,
)
from clusterctl_providers.docker import network as docker_network
from clusterctl_providers.docker.checks import check_engine
from clusterctl_providers.docker.client import TROUBLE, Engine, open_engine, translated
from clusterctl_providers.docker.container import container_name, creation, seed
from clusterctl_providers.docker.gpus import choose_gpus
from clusterctl_providers.docker.images import Images
from clusterctl_providers.docker.network import Network
from clusterctl_providers.docker.rows import SCOPE, described, inspected, is_over, listed, name_of
from clusterctl_providers.docker.volumes import kept_volumes, mounts_of, remove_volumes
from clusterctl_providers.this_machine import Ends, maker, only_offer
from clusterctl_providers.tokens import Tokens

CALLS = 8  # containers that are made or ended at the same time
CONSOLE_LINES = 400

_ISOLATED = ("-I",) if sys.flags.isolated else ()  # as the head was started


class DockerProvider:
    name = "docker"
    scopes: Sequence[str] = (SCOPE,)
    settle_seconds = 0.0  # a list shows the truth at once
    in_flight_seconds = 5.0  # so long the engine may take to make a container for a caller that is gone
    offers_last = OFFERS_LAST
    grace = 5.0  # seconds that a node gets to end its work

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._state = Path(context.state_dir)
        self._tokens = Tokens(self._state)
        self._gpus = threading.Lock()
        self._ends = Ends()

    # ------------------------------------------------------------ the contract

    def create(self, requests: Sequence[CreateRequest]) -> list[CreateResult]:
        """In parallel: the engine starts several at a time."""
        if not requests:
            return []
        try:
            self._prepare()
        except ProviderError as error:
            return [error for _ in requests]
        with ThreadPoolExecutor(min(CALLS, len(requests)), "docker-create") as pool:
            return list(pool.map(self._create, requests))

    def list(self) -> list[Observed]:
        now = time.time()
        try:
            containers = self._containers()
        except ProviderError as error:
            return [Observed(SCOPE, (), False, now, str(error), error.code)]
        ending = self._ends.stopping()
        return [Observed(SCOPE, tuple(self._told(row, ending) for row in containers), True, now)]

    def _told(self, row: Mapping[str, Any], ending: Collection[str]) -> Instance:
        """What has ended is asked how: a list tells no more than its exit code."""
        if is_over(row):
            with contextlib.suppress(*TROUBLE):
                return inspected(self._engine.api.inspect_container(row["Id"]))
        return listed(row, ending)

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        ending, found = self._ends.stopping(), dict[str, Instance]()
        for name in instance_ids:
            try:
                container = inspected(self._engine.api.inspect_container(name))
            except NotFound:
                continue
            except TROUBLE as error:
                raise translated(error, f"looking for the container {name}") from error
            stops = name in ending and container.state != "terminated"
            found[name] = replace(container, state="stopping") if stops else container
        return found

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """SIGTERM, after the grace SIGKILL, then the container goes. What takes longer than a moment goes on in a thread and
        is listed as stopping; `close` waits for it."""
        wanted = set(instance_ids) - self._ends.stopping()
        if not wanted:
            return
        containers = [c for c in self._containers() if name_of(c) in wanted]
        for container in containers:
            if token := container["Labels"].get(TAG_TOKEN):
                self._tokens.mark_ended(token)
        if containers:
            self._ends.begin(map(name_of, containers), lambda: self._end(containers))

    def offers(self, pool: PoolRequest) -> list[Offer]:
        """One offer: as much of the engine's machine as the pool says, all of it where it says nothing."""
        machine = {"CPU": self._engine.cpus, "memory": self._engine.memory}
        return [only_offer(pool, "container", SCOPE, "this engine's machine", machine)]

    def close(self) -> None:
        self._ends.wait()
        if "_engine" in self.__dict__:
            self._engine.api.close()

    # ------------------------------------------------------------ abilities

    def console_log(self, instance_id: str) -> str:
        """What its agent printed; "" for what is not ours or not there."""
        try:
            found = next((c for c in self._containers() if name_of(c) == instance_id), None)
            return self._engine.api.logs(found["Id"], tail=CONSOLE_LINES).decode(errors="replace") if found else ""
        except (*TROUBLE, ProviderError):
            return ""

    def doctor(self) -> list[tuple[str, bool, str]]:
        try:
            engine = self._engine
        except ProviderError as error:
            return [("the Docker engine answers", False, str(error))]
        return check_engine(engine, str(self._context.settings.get("head_address") or ""))

    def find_clusters(self) -> list[tuple[str, str, int]]:
        """Those that this user made from this machine, also where only a network is left."""
        found: dict[str, tuple[str, int]] = {}
        mine = {"label": [TAG_UID, f"{TAG_MAKER}={maker()}"]}
        try:
            containers = self._engine.api.containers(all=True, filters=mine)
            networks = self._engine.api.networks(filters=mine)
        except TROUBLE as error:
            raise translated(error, "looking for clusters on the Docker engine") from error
        for thing, count in [*((c, 1) for c in containers), *((n, 0) for n in networks)]:
            labels = thing["Labels"]
            name, before = found.get(labels[TAG_UID], (labels.get(TAG_CLUSTER, ""), 0))
            found[labels[TAG_UID]] = (name, before + count)
        return sorted((name, uid, count) for uid, (name, count) in found.items())

    def kept_volumes(self) -> list[KeptVolume]:
        return kept_volumes(self._engine)

    def agent_endpoint(self) -> tuple[str, str]:
        """Makes the network: its gateway is where the head listens."""
        setting = str(self._context.settings.get("head_address") or "")
        return docker_network.agent_endpoint(self._engine, self._network, setting)

    def inside(self, instance_id: str, argv: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        program = [sys.executable, *_ISOLATED, "-m", "clusterctl_providers.docker.stdio"]
        return [*program, str(self._state), instance_id, json.dumps(dict(environment)), *argv]

    def sweep(self) -> list[str]:
        """The network goes once no container is on it, and volumes that nobody asked to keep."""
        remove_volumes(self._engine, self._context)
        docker_network.remove_network(self._engine, self._context)
        self.__dict__.pop("_network", None)
        return []

    # ------------------------------------------------------------ inside

    @cached_property
    def _engine(self) -> Engine:
        """Of no cluster in particular (`gc`): nothing is noted."""
        return open_engine(str(self._context.settings.get("host") or ""), self._state if self._context.uid else None)

    @cached_property
    def _network(self) -> Network:
        return docker_network.ensure_network(self._engine, self._context)

    @cached_property
    def _images(self) -> Images:
        return Images(self._engine, self._context)

    def _prepare(self) -> tuple[Network, Images]:
        """Once, before threads ask for them."""
        return self._network, self._images

    def _containers(self) -> list[Mapping[str, Any]]:
        """All that carry our uid, in one call."""
        try:
            return self._engine.api.containers(all=True, filters={"label": f"{TAG_UID}={self._context.uid}"})
        except TROUBLE as error:
            raise translated(error, f"listing the containers of cluster {self._context.cluster}") from error

    def _create(self, request: CreateRequest) -> CreateResult:
        with self._tokens.held(request.token):
            if self._tokens.has_ended(request.token):
                return self._used_up(request)
            try:
                return self._make(request)
            except ProviderError as error:
                return error
            except TROUBLE as error:
                return translated(error, f"making the container of {request.node_id}")

    def _make(self, request: CreateRequest) -> Instance:
        """Creates, fills and starts what of it is not done yet. Whatever fails on the way leaves no container behind."""
        api = self._engine.api
        image = self._images.get(self._image_name(request.pool))
        archive = seed(request, self._context, image)
        container = self._created(request)
        if isinstance(container, Instance):
            return container
        try:
            api.put_archive(container, "/", archive)
            api.start(container)
            return inspected(api.inspect_container(container))
        except TROUBLE as error:
            self._undo(container, request.node_id, error)
            if isinstance(error, NotFound):  # something was removed behind our back: made again with the next try
                self._look_again(self._image_name(request.pool))
                raise ProviderError(
                    f"starting the container of {request.node_id} failed: {error.explanation}"
                ) from error
            raise translated(error, f"starting the container of {request.node_id}") from error

    def _created(self, request: CreateRequest) -> str | Instance:
        """The id of its container, which is still to be filled and started; or the instance, where an earlier create did
        that."""
        count = int(request.offer.resources.get("GPU"))
        own = container_name(self._context.cluster, request.node_id, request.token)
        with self._gpus if count else contextlib.nullcontext():
            others = [c for c in self._everyones() if name_of(c) != own and not is_over(c)] if count else []
            gpus = choose_gpus(count, others, self._context.settings, request.node_id)
            try:
                return self._create_container(request, gpus)
            except NotFound:
                self._look_again(self._image_name(request.pool))
                return self._create_container(request, gpus)

    def _create_container(self, request: CreateRequest, gpus: Sequence[str] | None) -> str | Instance:
        image = self._images.get(self._image_name(request.pool))
        mounts = mounts_of(self._engine, self._context, request.pool.spec)
        wanted = creation(self._engine, self._context, request, image, self._network, gpus, mounts)
        try:
            return str(self._engine.api.create_container(**wanted)["Id"])
        except APIError as error:
            if error.status_code != 409:
                raise
        name = wanted["name"]
        found = self._engine.api.inspect_container(name)
        if found["Config"]["Labels"].get(TAG_UID) != self._context.uid:
            raise BadRequest(f"a container named {name} is not this cluster's: remove it (docker rm -f {name})")
        return str(found["Id"]) if found["State"]["Status"] == "created" else inspected(found)

    def _everyones(self) -> list[Mapping[str, Any]]:
        """Containers of all clusters on this engine."""
        return self._engine.api.containers(all=True, filters={"label": TAG_UID})

    def _look_again(self, image_name: str) -> None:
        """The image or the network went away since it was looked at."""
        self._images.forget(image_name)
        self.__dict__.pop("_network", None)

    def _undo(self, container: str, node_id: str, cause: Exception) -> None:
        try:
            with contextlib.suppress(NotFound):
                self._engine.api.remove_container(container, force=True, v=True)
        except TROUBLE as error:
            raise UnknownOutcome(
                f"the container of {node_id} did not start ({cause}) and could not be removed ({error})"
            ) from error

    def _image_name(self, pool: PoolRequest) -> str:
        settings = self._context.settings
        name = str(pool.spec.get("image") or settings.get("image") or self._context.default_image)
        if not name:
            raise BadRequest(
                f"pool {pool.name} names no image: write `image:` in the pool or in `provider: {{docker: {{image: ...}}}}`, any "
                "with Python 3.10 or later will do"
            )
        return name

    def _end(self, containers: Sequence[Mapping[str, Any]]) -> None:
        with ThreadPoolExecutor(min(CALLS * 2, len(containers)), "docker-end") as pool:
            troubles = [text for text in pool.map(self._end_one, containers) if text]
        if troubles:
            raise ProviderError(f"could not end {', '.join(troubles)}")

    def _end_one(self, container: Mapping[str, Any]) -> str:
        """ "" when it is gone; else what it is and why not."""
        api = self._engine.api
        try:
            if container["State"] in ("running", "restarting"):
                with contextlib.suppress(NotFound):
                    api.stop(container["Id"], timeout=max(1, round(self.grace)))
            api.remove_container(container["Id"], force=True, v=True)
        except NotFound:
            return ""
        except TROUBLE as error:
            if isinstance(error, APIError) and error.status_code == 409:
                return ""  # its removal is under way
            return f"{name_of(container)} ({error})"
        return ""

    def _used_up(self, request: CreateRequest) -> Instance:
        name = container_name(self._context.cluster, request.node_id, request.token)
        labels = {**request.tags, TAG_UID: self._context.uid, TAG_TOKEN: request.token}
        return described(name, labels, "terminated", "", 0.0, "(its token is used up)")
