"""Every provider's Kind by its name. A new provider's module is named here, and nowhere else in the spec."""

from __future__ import annotations

from clusterctl.spec.providers import docker, fake, local, ssh
from clusterctl.spec.providers.clouds import CLOUDS
from clusterctl.spec.providers.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (local.KIND, docker.KIND, ssh.KIND, *CLOUDS, fake.KIND)
}  # the order in which people are told of them
EXAMPLE = CLOUDS[0].example  # for sentences that show where settings of a provider are written
