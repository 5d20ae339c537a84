"""Every call to AWS goes through here: one client per service, one shared token bucket, typed errors.

boto3's own retries are off: it would repeat a launch that found no capacity (EC2 answers 500 to that) five times, and
would spend the account's rate limit behind the bucket's back.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from botocore.config import Config

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.aws.errors import code_of, typed
from clusterctl_providers.aws.region import region_trouble
from clusterctl_providers.cloud.bucket import shared_bucket
from clusterctl_providers.cloud.calls import call_once, pages, read

CALLS_PER_SECOND = 5.0
_GLOBAL = {"pricing": "us-east-1"}  # services that answer in one region for all
_PREFIX = {"servicequotas": "service-quotas"}


class Calls:
    """Thread-safe. `call` raises ProviderError only."""

    def __init__(self, settings: Mapping[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
        self._profile = str(settings.get("profile") or "") or None
        self._endpoint = str(settings.get("endpoint_url") or "") or None
        self._wanted_region = str(settings.get("region") or "") or None
        rate = float(settings.get("calls_per_second") or CALLS_PER_SECOND)
        self._pause = pause
        self.bucket = shared_bucket("AWS", rate, self._profile or "", self._wanted_region or "", self._endpoint or "")
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()

    @property
    def region(self) -> str:
        region = self._wanted_region or self._open_session().region_name
        if not region:
            raise BadRequest(
                "no AWS region is known: write `provider: {aws: {region: us-east-1}}`, or set AWS_REGION, or give the "
                "profile in ~/.aws/config a region"
            )
        return str(region)

    def call(self, service: str, operation: str, what: str, *, quota: str = "", **parameters: Any) -> dict[str, Any]:
        """One call, made once: for whatever changes something. `operation` in boto3's spelling (run_instances)."""

        def make() -> dict[str, Any]:
            return getattr(self._client(service), operation)(**parameters)

        return call_once(self.bucket, make, lambda error: self._explained(error, service, operation, what, quota))

    def read(self, service: str, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
        """A call that changes nothing: repeated a few times when AWS is busy or the line breaks."""
        return read(lambda: self.call(service, operation, what, **parameters), self._pause)

    def pages(self, service: str, operation: str, what: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Pages of a list, one after the other; raises ProviderError in the middle when a page is not to be had."""

        def page(token: str) -> tuple[dict[str, Any], str]:
            found = self.read(service, operation, what, **parameters, **({"NextToken": token} if token else {}))
            return found, str(found.get("NextToken") or "")

        return pages(page, what, "AWS")

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _open_session(self) -> Any:
        import boto3
        import botocore.session

        with self._lock:
            if self._session is None:
                try:
                    core = botocore.session.Session(profile=self._profile)
                    core.register_component("data_loader", _loader())
                    core.get_scoped_config()  # where a profile that is not there shows
                    self._session = boto3.Session(botocore_session=core)
                except Exception as error:
                    raise typed(
                        error, "", "opening the AWS profile" + (f" {self._profile!r}" if self._profile else "")
                    ) from error
            return self._session

    def _explained(self, error: Exception, service: str, operation: str, what: str, quota: str) -> ProviderError:
        wrong = typed(error, permission(service, operation), what, quota)
        if not isinstance(wrong, AuthFailed):
            return wrong
        wrong = self._of_the_region(error, what) or wrong
        self._log_in_anew()
        return wrong

    def _of_the_region(self, error: Exception, what: str) -> AuthFailed | None:
        """Where the keys are good and the region is not."""
        trouble = region_trouble(code_of(error), self.region, self._make_client)
        return AuthFailed(f"{what}: {trouble}") if trouble else None

    def _log_in_anew(self) -> None:
        """Credentials that lapsed are read again with the next call: a daemon outlives them."""
        with self._lock:
            self._clients.clear()
            self._session = None

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service, _GLOBAL.get(service, self.region))
            return self._clients[service]

    def _make_client(self, service: str, region: str) -> Any:
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=16,
            user_agent_extra="clusterctl",
        )
        name = _PREFIX.get(service, service)
        return self._open_session().client(name, region_name=region, endpoint_url=self._endpoint, config=config)


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Service descriptions are large: read once per process."""
    from botocore.loaders import create_loader

    return create_loader()


def permission(service: str, operation: str) -> str:
    """The IAM action of a call: ("ec2", "run_instances") -> ec2:RunInstances."""
    return f"{service}:{''.join(part.capitalize() for part in re.split('_', operation))}"
