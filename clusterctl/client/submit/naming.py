"""Which job a word on the command line means: the head knows."""

from __future__ import annotations

import re

from clusterctl.client.head.api import Api
from clusterctl.core.errors import NotFound

_WHOLE_ID = re.compile(r"j-[a-z2-7]{8}(\.\d+)?")


def job_id(api: Api, word: str, *, to_end: bool = False) -> str:
    """The id of the job or array that is meant; `word` itself where there is none, for those who know of more than jobs.
    `to_end`: it is to be cancelled. Raises UsageError where several are meant."""
    if _WHOLE_ID.fullmatch(word):
        return word
    try:
        return str(api.get("/api/v1/jobs:named", word=word, to_end=to_end)["id"])
    except NotFound:  # from a head of an older version, too
        return word
