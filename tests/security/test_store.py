"""One thing that cannot be written must not keep everything after it from the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store


def test_half_a_character_and_a_number_over_64_bits_do_not_stop_the_store(tmp_path: Path) -> None:
    async def write() -> None:
        store = Store(tmp_path / "store.db")
        try:
            EventLog(store).add("security", "\ud800", "odd", "half \udfff a character", count=2**70)
            store.write("INSERT INTO meta VALUES (?,?)", ("large", 2**70))
            store.write("INSERT INTO meta VALUES (?,?)", ("after", "it"))
            await asyncio.wait_for(store.flush(), 60)
            assert store.rows("SELECT value FROM meta") == [("it",)]
            assert EventLog(store).newest(1)[0]["subject"] == "\\ud800"
        finally:
            store.close()

    asyncio.run(write())
