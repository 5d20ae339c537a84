"""Which job somebody means: by its id or the beginning of one, by its name, or as the last one.

A word may fit in several ways: an id comes before a name, a name before the beginning of an id. Of jobs with one name the
newest is meant, but for what ends jobs: names are often those of programs. An array is named like a job, by the name of its
members, and a member as ARRAY.INDEX.
"""

from __future__ import annotations

import asyncio

from clusterctl.core.errors import NotFound, UsageError
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.job import Job

LAST = "last"
LOOKED_AT_ONCE = 1000  # jobs that one turn of the loop looks at
MOST_NAMED = 4  # of those that a word fits


async def job_named(book: JobBook, word: str, *, to_end: bool = False) -> str:
    """The id of the job or array. `to_end`: it is to be ended, so that those that have ended are not meant by their name, and
    only one can be. Raises NotFound; UsageError where several are meant."""
    if found := _by_id(book, word):
        return found
    if word == LAST:
        for job in book.newest(None, 1):
            return _whole(job)
        raise NotFound("there is no job on this cluster yet")
    found = await _search(book, word, to_end)
    if not found and "." in word:
        array, _, index = word.rpartition(".")
        of = _by_id(book, array) or await _search(book, array, to_end)
        found = _by_id(book, f"{of}.{index}")
    if not found:
        raise NotFound(f"no job {word!r} on this cluster: `clusterctl jobs` lists them")
    return found


def _by_id(book: JobBook, word: str) -> str:
    return word if word in book.jobs or word in book.gate.arrays else ""


async def _search(book: JobBook, word: str, to_end: bool) -> str:
    """By name, and then by the beginning of an id; "" for none."""
    named, alike = dict[str, None](), dict[str, None]()
    before: int | None = None
    while word and (jobs := book.newest(before, LOOKED_AT_ONCE)):
        for job in jobs:
            if job.name == word and not (to_end and job.final) and len(named) <= MOST_NAMED:
                named[_whole(job)] = None
            elif job.id.startswith(word) and len(alike) <= MOST_NAMED:
                alike[_whole(job)] = None
        if named and not to_end:
            break
        before = jobs[-1].seq
        await asyncio.sleep(0)
    if named and not to_end:
        return next(iter(named))
    found = list(named or alike)
    if len(found) > 1:
        listed = ", ".join(found[:MOST_NAMED]) + (" and more" if len(found) > MOST_NAMED else "")
        what = "is the name" if named else "is the beginning"
        raise UsageError(f"{word!r} {what} of several jobs ({listed}): name one by its id")
    return found[0] if found else ""


def _whole(job: Job) -> str:
    """Its own id, or that of the array that it is of."""
    return job.array_id or job.id
