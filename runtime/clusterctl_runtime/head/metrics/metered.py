"""A provider whose calls are counted and timed."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from clusterctl_providers.base import CreateRequest, CreateResult, PoolRequest, Provider
from clusterctl_providers.wrapper import Wrapper

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed, Offer
from clusterctl_runtime.head.metrics.counts import Counts

T = TypeVar("T")


class Metered(Wrapper):
    def __init__(self, inner: Provider, counts: Counts) -> None:
        super().__init__(inner)
        self._counts = counts

    def create(self, requests: Sequence[CreateRequest]) -> builtins.list[CreateResult]:
        results = self._timed("create", self.inner.create, requests)
        self._note("create", [one.code for one in results if isinstance(one, ProviderError)])
        return results

    def list(self) -> builtins.list[Observed]:
        scopes = self._timed("list", self.inner.list)
        self._note("list", [one.code or ProviderError.code for one in scopes if not one.complete])
        return scopes

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        return self._timed("look_up", self.inner.look_up, instance_ids)

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._timed("terminate", self.inner.terminate, instance_ids)

    def offers(self, pool: PoolRequest) -> builtins.list[Offer]:
        return self._timed("offers", self.inner.offers, pool)

    def stop(self, instance_ids: Sequence[str]) -> None:
        self._ability("stop", instance_ids)

    def start(self, instance_ids: Sequence[str]) -> builtins.list[ProviderError | None]:
        answers: builtins.list[ProviderError | None] = self._ability("start", instance_ids)
        self._note("start", [one.code for one in answers if one is not None])
        return answers

    def console_log(self, instance_id: str) -> str:
        return self._ability("console_log", instance_id)

    def _ability(self, call: str, argument: Any) -> Any:
        return self._timed(call, getattr(self.inner, call), argument)

    def _timed(self, call: str, function: Callable[..., T], *arguments: Any) -> T:
        began = time.perf_counter()
        try:
            return function(*arguments)
        except Exception as error:
            self._note(call, [getattr(error, "code", type(error).__name__)])
            raise
        finally:
            self._counts.provider_call.labels(self.inner.name, call).observe(time.perf_counter() - began)

    def _note(self, call: str, codes: Sequence[str]) -> None:
        for code in codes:
            self._counts.provider_errors.labels(self.inner.name, call, code).inc()
