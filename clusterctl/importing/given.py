"""Where machines are to come from, as the user says beside the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.errors import UsageError
from clusterctl.spec.faults import did_you_mean
from clusterctl.spec.providers.registry import KINDS


@dataclass(frozen=True)
class Given:
    """`provider`, `settings`: "" and none where the file is to say it."""

    provider: str = ""
    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def value(self) -> Any:
        """As a spec has it."""
        return {self.provider: dict(self.settings)} if self.settings else self.provider


def read_given(text: str) -> Given:
    """Of a provider's name, with a cloud's region behind it, as in "local" or "CLOUD/REGION". Raises UsageError."""
    name, _, region = text.partition("/")
    if not name:
        return Given()
    kind = KINDS.get(name)
    if kind is None:
        raise UsageError(f"--provider {text}: {did_you_mean(name, KINDS) or 'there are ' + ', '.join(KINDS)}")
    if kind.cloud is not None and not region:
        raise UsageError(f"--provider {text}: say in which region, as in --provider {name}/{kind.cloud.region}")
    if kind.cloud is None and region:
        raise UsageError(f"--provider {text}: {name} has no regions: say --provider {name}")
    return Given(name, {"region": region} if region else {})
