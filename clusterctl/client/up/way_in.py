"""How this machine gets to the head's instance: what the setting `reach` of a cloud means, as its Kind describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.isolated import module
from clusterctl.provision.ssh.openssh import command_line
from clusterctl.spec.providers.kind import Reach

if TYPE_CHECKING:
    from clusterctl_providers.base import Whereabouts

    from clusterctl.spec.model import ClusterSpec


@dataclass(frozen=True)
class WayIn:
    """`provider` and `name` as the spec has them: `reach: NAME` under `provider: {PROVIDER: ...}`. `user` logs in to the default
    images; `settings` are the provider's."""

    provider: str
    name: str
    reach: Reach
    user: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, spec: ClusterSpec) -> WayIn:
        """For a spec whose head runs on an instance."""
        cloud, settings = spec.kind.cloud, spec.provider_settings
        assert cloud is not None, "only a cloud's head runs on an instance"
        name = str(settings.get("reach") or "public")
        return cls(spec.provider_name, name, cloud.reach[name], cloud.user, settings)

    @property
    def ssh_from(self) -> tuple[str, ...]:
        """What may reach port 22: what the user says, else what this way needs."""
        return tuple(self.settings.get("ssh_from") or self.reach.opens)

    def check(self) -> None:
        """Raises ClusterctlError where a program that it needs is not here."""
        missing = self.reach.missing()
        if missing:
            told = "; ".join(f"{name!r} is not on PATH: {fix}" for name, fix in missing)
            raise ClusterctlError(f"`reach: {self.name}` cannot get to the head's machine: {told}")

    def command(self, instance: str, port: int) -> str:
        """The program whose stdin and stdout lead to the SSH server, as a shell or `shlex` reads it; "" where SSH gets there by
        itself."""
        if not self.reach.command:
            return ""
        words = [word.format(id=instance, port=port) for word in self.reach.command.split()]
        if words[0] == "-m":
            words = [*module(words[1]), *words[2:]]
        given = {name: str(self.settings.get(name) or "") for name in self.reach.options}
        return command_line([*words, *(f"--{name}={value}" for name, value in given.items() if value)])

    def host(self, instance: str, where: Whereabouts) -> str:
        """What is logged in to, by its address, or by its id where a program leads there."""
        if self.reach.public:
            return where.public or where.place.private
        name = instance.rpartition("/")[2]  # an id may have its zone before it
        return name if self.reach.command else where.place.private
