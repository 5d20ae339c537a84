"""How any cloud is called: through the bucket, with typed errors, reads repeated, lists read page by page.

What is called is the cloud's own business: these take functions. The SDK's own retries are to be off, since they spend the
rate limit behind the bucket's back and repeat what must not be.

    AWS           getattr(boto3 client, operation)(**parameters), retries off by Config; pages by NextToken, or IAM's Marker
    Google Cloud  plain REST, nothing repeated by the session; pages by pageToken; an operation's error counts as the call's
    Azure         client.virtual_machines.begin_create_or_update(...), retry_total=0; pages by nextLink
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from clusterctl.core.errors import ProviderError, Throttled, UnknownOutcome
from clusterctl_providers.cloud.bucket import Bucket

log = logging.getLogger(__name__)

TURN = 2.0  # seconds that a call waits for the bucket
READ_TRIES = 4  # a read that is throttled or broken changes nothing and is repeated so often
LONGEST_PAUSE = 4.0  # seconds between two of them
Answer = TypeVar("Answer")
Explain = Callable[[Exception], ProviderError]


def call_once(bucket: Bucket, make: Callable[[], Answer], explain: Explain) -> Answer:
    """One call, made once: for whatever changes something. Raises ProviderError only, the cloud's own error behind it;
    `explain` turns whatever `make` raises into one, and what is one already is left as it is."""
    bucket.take(TURN)
    try:
        answer = make()
    except ProviderError:
        raise
    except Exception as error:
        wrong = explain(error)
        if isinstance(wrong, Throttled):
            wrong.retry_after = bucket.refused(wrong.retry_after)
        raise wrong from error
    bucket.served()
    return answer


def read(call: Callable[[], Answer], pause: Callable[[float], None] = time.sleep) -> Answer:
    """A call that changes nothing, or nothing more when it is made twice: repeated a few times when the cloud is busy or the
    line breaks."""
    for tries in range(1, READ_TRIES):
        try:
            return call()
        except (Throttled, UnknownOutcome) as error:
            wait = min(getattr(error, "retry_after", 0.2 * tries), LONGEST_PAUSE)
            log.info("%s; again in %.1f s", error, wait)
        pause(wait)
    return call()


def pages(page: Callable[[str], tuple[Answer, str]], what: str, cloud: str) -> Iterator[Answer]:
    """Pages of a list, one after the other. `page(token)` reads the one that begins at `token` ("" for the first) and names
    the token of the next, "" for none. Raises ProviderError in the middle when a page is not to be had."""
    token = ""
    while True:
        found, following = page(token)
        yield found
        if not following:
            return
        if following == token:
            raise ProviderError(f"{what}: {cloud} answered the same page twice; run it again")
        token = following
