"""The `provider` of a spec: a name, or one name with its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Tag, create_model, model_validator

from clusterctl.spec.base import SpecModel, form_of
from clusterctl.spec.faults import flow
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import EXAMPLE, KINDS


class OneProvider(SpecModel):
    """One provider with its settings."""

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_has_no_settings(cls, value: Any) -> Any:
        """`provider: {docker: }` is `provider: {docker: {}}`, where it is the only one."""
        if isinstance(value, dict) and len(value) == 1:
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> OneProvider:
        if len(self.names()) != 1:
            named = " and ".join(self.names()) or "none"
            raise ValueError(f"a cluster has one provider, here {named}: write one, as in `provider: {flow(EXAMPLE)}`")
        return self

    def names(self) -> list[str]:
        """Those that are given, in the order of `KINDS`."""
        return [name for name in KINDS if getattr(self, name) is not None]

    @property
    def kind(self) -> Kind:
        return KINDS[self.names()[0]]

    @property
    def model(self) -> SpecModel:
        """The settings, defaults and all."""
        return getattr(self, self.kind.name)

    def settings(self) -> dict[str, Any]:
        """What the user set, as plain data; defaults are left out."""
        return self.model.model_dump(mode="json", exclude_defaults=True)


_FIELDS: dict[str, Any] = {name: (kind.settings | None, None) for name, kind in KINDS.items()}

if TYPE_CHECKING:
    ProviderName = str
    ProviderSettings = OneProvider
else:
    ProviderName = Literal[tuple(KINDS)]
    ProviderSettings = create_model(
        "ProviderSettings", __base__=OneProvider, __doc__=OneProvider.__doc__, __module__=__name__, **_FIELDS
    )

Provider = Annotated[
    Annotated[ProviderName, Tag("text")] | Annotated[ProviderSettings, Tag("mapping")],
    Discriminator(form_of),
]
