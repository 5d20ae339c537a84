"""Every call to AWS goes through here: one client per service, one shared token bucket, typed errors.

boto3's own retries are off: it would repeat a launch that found no capacity (EC2 answers 500 to that) five times, and
would spend the account's rate limit behind the bucket's back.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from botocore.config import Config

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, Throttled, UnknownOutcome
from clusterctl_providers.aws.errors import code_of, typed
from clusterctl_providers.aws.region import region_trouble

log = logging.getLogger(__name__)

BURST = 20
CALLS_PER_SECOND = 5.0
PATIENCE = 60.0  # seconds; what was just made may take some to be seen everywhere, says AWS
READ_TRIES = 4  # a read that is throttled or broken changes nothing and is repeated so often
_GLOBAL = {"pricing": "us-east-1"}  # services that answer in one region for all
_PREFIX = {"servicequotas": "service-quotas"}


class Bucket:
    """Calls per second over all that a process does in an account. AWS saying "too many" empties it and slows it for a while."""

    def __init__(
        self,
        rate: float = CALLS_PER_SECOND,
        burst: int = BURST,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._full_rate = self._rate = rate
        self._burst, self._level = float(burst), float(burst)
        self._clock, self._pause = clock, pause
        self._at = clock()
        self._closed_until = 0.0
        self._refusals = 0
        self._lock = threading.Lock()

    def take(self, patience: float) -> None:
        """Returns when a call may be made; raises Throttled when that is more than `patience` seconds away."""
        with self._lock:
            now = self._clock()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
            wait = max(self._closed_until - now, (1.0 - self._level) / self._rate, 0.0)
            if wait > patience:
                raise Throttled(
                    f"calls to AWS are held back for {wait:.1f} s, since it limits the calls of this account",
                    retry_after=wait,
                )
            self._level -= 1.0
        if wait:
            self._pause(wait)

    def refused(self) -> float:
        """AWS said "too many": half the rate, and a pause that doubles with each refusal in a row. Returns the pause."""
        with self._lock:
            self._refusals += 1
            self._rate = max(self._full_rate / 8, self._rate / 2)
            wait = min(0.5 * 2**self._refusals, 30.0)
            self._level = 0.0
            self._closed_until = self._clock() + wait
            return wait

    def served(self) -> None:
        with self._lock:
            self._refusals = 0
            self._rate = min(self._full_rate, self._rate * 1.1)


_BUCKETS: WeakValueDictionary[tuple[object, ...], Bucket] = WeakValueDictionary()
_BUCKETS_LOCK = threading.Lock()


def shared_bucket(rate: float, *account: str) -> Bucket:
    """The one of this process for all clients of an account (profile, region, endpoint) and rate, for as long as there are
    any: AWS counts their calls together."""
    with _BUCKETS_LOCK:
        bucket = _BUCKETS.get((rate, *account))
        if bucket is None:
            bucket = _BUCKETS[(rate, *account)] = Bucket(rate, max(BURST, int(rate)))
        return bucket


class Calls:
    """Thread-safe. `call` raises ProviderError only."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._profile = str(settings.get("profile") or "") or None
        self._endpoint = str(settings.get("endpoint_url") or "") or None
        self._wanted_region = str(settings.get("region") or "") or None
        rate = float(settings.get("calls_per_second") or CALLS_PER_SECOND)
        self.bucket = shared_bucket(rate, self._profile or "", self._wanted_region or "", self._endpoint or "")
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
        try:
            self.bucket.take(patience=2.0)
            answer = getattr(self._client(service), operation)(**parameters)
        except Exception as error:
            wrong = typed(error, permission(service, operation), what, quota)
            if isinstance(wrong, Throttled) and wrong is not error:
                wrong.retry_after = self.bucket.refused()
            if isinstance(wrong, AuthFailed):
                wrong = self._of_the_region(error, what) or wrong
                self._log_in_anew()
            raise wrong from error
        self.bucket.served()
        return answer

    def read(self, service: str, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
        """A call that changes nothing: repeated a few times when AWS is busy or the line breaks."""
        for tries in range(1, READ_TRIES + 1):
            try:
                return self.call(service, operation, what, **parameters)
            except (Throttled, UnknownOutcome) as error:
                wait = min(getattr(error, "retry_after", 0.2 * tries), 4.0)
                if tries == READ_TRIES:
                    raise
                log.info("%s; again in %.1f s", error, wait)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def pages(self, service: str, operation: str, what: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Pages of a list, one after the other; raises ProviderError in the middle when a page is not to be had."""
        token = ""
        while True:
            more = {"NextToken": token} if token else {}
            page = self.read(service, operation, what, **parameters, **more)
            yield page
            following = str(page.get("NextToken") or "")
            if not following:
                return
            if following == token:
                raise ProviderError(f"{what}: AWS answered the same page twice; run it again")
            token = following

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
