"""A price list that takes long to read, kept in a file of the user's for half a day: all clusters have the same prices.

AWS           asked type by type, nothing is kept
Google Cloud  one list of all regions, of cores, memory and devices
Azure         one list for each region, of sizes
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.core.errors import ProviderError

FRESH = 12 * 3600.0  # seconds that a list is believed
REFUSED_FOR = 600.0  # that nobody asks again after an answer was refused
Rates = Mapping[str, Mapping[str, float]]  # what is sold -> market -> $ per hour


class KeptPrices:
    """Thread-safe. `file` is None where nothing is kept, as of a stand-in. `read`: everything that it finds, region -> Rates;
    raises ProviderError."""

    def __init__(
        self,
        file: Path | None,
        read: Callable[[], dict[str, dict[str, dict[str, float]]]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._read, self._now = file, read, now
        self._rates: dict[str, dict[str, dict[str, float]]] = {}  # region -> Rates
        self._read_at = 0.0
        self._refused: tuple[float, ProviderError] | None = None  # until, and what was answered
        self._lock = threading.Lock()

    def rates(self, region: str) -> tuple[Rates, str]:
        """Those of a region and the day on which they were read, ISO. Raises ProviderError where they are not to be had."""
        with self._lock:
            if not self._is_fresh(self._read_at):
                self._load()
            if not self._is_fresh(self._read_at):
                self._ask()
            day = datetime.fromtimestamp(self._read_at, timezone.utc).date().isoformat()
            return self._rates.get(region, {}), day

    def _is_fresh(self, read_at: float) -> bool:
        return 0 <= self._now() - read_at < FRESH

    def _load(self) -> None:
        """What is kept, if it can be read."""
        if self._file is None:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            read_at = float(kept["read_at"])
            if self._is_fresh(read_at):
                self._rates = {str(region): dict(rates) for region, rates in kept["rates"].items()}
                self._read_at = read_at

    def _ask(self) -> None:
        now = self._now()
        if self._refused is not None and 0 <= self._refused[0] - now <= REFUSED_FOR:
            raise self._refused[1]
        try:
            self._rates = self._read()
        except ProviderError as error:
            self._refused = (now + REFUSED_FOR, error)
            raise
        self._read_at, self._refused = now, None
        self._keep()

    def _keep(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # then they are read again
            make_private_dir(self._file.parent)
            write_private(self._file, json.dumps({"read_at": self._read_at, "rates": self._rates}))
