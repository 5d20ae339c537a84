"""Every provider's Kind by its name. A new provider's module is named here, and nowhere else in the spec."""

from __future__ import annotations

from clusterctl.spec.providers import docker, fake, kubernetes, local, ssh
from clusterctl.spec.providers.clouds import CLOUDS
from clusterctl.spec.providers.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (local.KIND, docker.KIND, ssh.KIND, *CLOUDS, kubernetes.KIND, fake.KIND)
}  # the order in which people are told of them
# for sentences and pages that show what is written where
_CLOUD = next(kind.cloud for kind in CLOUDS if kind.works and kind.cloud is not None)
EXAMPLE = CLOUDS[0].example
A_PLACE = next(f"{kind.name}/{kind.cloud.region}" for kind in CLOUDS if kind.works and kind.cloud)
A_ZONE = _CLOUD.zone_in(_CLOUD.region)
A_RESERVATION = next(kind.cloud.reservation.example for kind in CLOUDS if kind.cloud and kind.cloud.reservation)
