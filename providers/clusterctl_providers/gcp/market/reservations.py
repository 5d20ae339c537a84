"""Reservations and future reservations of Compute Engine, as `cloud.reservations` knows them.

A pool names one by its name, or one that another project shares as projects/P/zones/Z/reservations/NAME. What is promised for
later is found by the same name among the future reservations: when its time has come, Google makes a reservation of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.cloud.reservations import RESERVED, Reservation
from clusterctl_providers.gcp.calls import Calls, last_part, relative
from clusterctl_providers.gcp.errors import is_missing
from clusterctl_providers.gcp.machines.accelerators import type_of

log = logging.getLogger(__name__)

FLEX_START = "flex-start"  # market of machines that Google starts when it has them
# A reservation's `group`: its machines stand close together, and take no placement policy; or they are of a calendar's. Either
# way they are bound to it, and end with it.
DENSE, CALENDAR = "dense", "calendar"
_PATH = re.compile(r"projects/([^/]+)/zones/([^/]+)/reservations/([^/]+)")
_MARKETS = {"SPOT": "spot", "FLEX_START": FLEX_START, "RESERVATION_BOUND": RESERVED}
_READY = "READY"


class Lookup:
    """Called with what a pool writes. `zones`: those of the region."""

    def __init__(self, calls: Calls, zones: Callable[[], Sequence[str]]) -> None:
        self._calls, self._zones = calls, zones

    def __call__(self, reservation: str) -> Reservation:
        """Raises ProviderError when Google does not know it or does not answer."""
        what = f"looking up the reservation {reservation} in {self._calls.region}"
        if path := _PATH.search(reservation):
            return _reservation(reservation, self._calls.get(path.group(0), what))
        for row in self._named("reservations", reservation, what):
            found = _reservation(reservation, row)
            return found if found.group or not self._is_of_calendar(row) else replace(found, group=CALENDAR)
        for row in self._promised(reservation, what):
            return _future(reservation, row)
        raise ProviderError(f"{what}: there is none; reservations belong to a zone and a project")

    def _named(self, collection: str, name: str, what: str) -> Iterator[dict[str, Any]]:
        for zone in self._zones():
            try:
                yield self._calls.get(f"zones/{zone}/{collection}/{name}", what)
            except BadRequest as error:
                if not is_missing(error):
                    raise

    def _is_of_calendar(self, row: Mapping[str, Any]) -> bool:
        """Whether Google made it of a future reservation in calendar mode. Who may not look takes it for none."""
        zone, link = last_part(str(row["zone"])), relative(str(row["selfLink"]))
        try:
            for page in self._calls.pages(
                f"zones/{zone}/futureReservations", f"asking what the reservation {link} is of"
            ):
                for future in page.get("items") or ():
                    made = (future.get("status") or {}).get("autoCreatedReservations") or ()
                    if link in map(relative, made):
                        return future.get("reservationMode") == "CALENDAR"
        except ProviderError as error:
            log.info("%s", error)
        return False

    def _promised(self, name: str, what: str) -> Iterator[dict[str, Any]]:
        """Future reservations of that name, or that will make a reservation of it."""
        for zone in self._zones():
            for page in self._calls.pages(f"zones/{zone}/futureReservations", what):
                for row in page.get("items") or ():
                    if name in (row["name"], row.get("reservationName")):
                        yield row


def affinity_name(found: Reservation) -> str:
    """As an instance names it: a shared one with its project."""
    path = _PATH.search(found.id)
    return f"projects/{path[1]}/reservations/{path[3]}" if path else found.id


def market_of(row: Mapping[str, Any]) -> str:
    """The market of an instance as Compute Engine shows it."""
    model = str((row.get("scheduling") or {}).get("provisioningModel") or "")
    affinity = row.get("reservationAffinity") or {}
    if model not in _MARKETS and affinity.get("consumeReservationType") == "SPECIFIC_RESERVATION":
        return RESERVED
    return _MARKETS.get(model, "on-demand")


def _reservation(name: str, row: Mapping[str, Any]) -> Reservation:
    specific = row.get("specificReservation") or {}
    if not specific:
        raise ProviderError(f"the reservation {name} is not one of instances: name one that is")
    if not row.get("specificReservationRequired"):
        raise ProviderError(
            f"the reservation {name} goes to any instance that fits, and cannot be asked for by name: leave `reservation` out, "
            "or make one with --require-specific-reservation"
        )
    total, used = int(specific.get("count") or 0), int(specific.get("inUseCount") or 0)
    usable = min(total, int(specific.get("assuredCount") or total))
    status = str(row.get("status") or _READY)
    return Reservation(
        id=name,
        instance_type=_type(specific.get("instanceProperties") or {}),
        zone=last_part(str(row["zone"])),
        total=total,
        free=max(usable - used, 0),
        state="active" if status in (_READY, "UPDATING") else status.lower(),
        ends=_seconds(row.get("deleteAtTime")),
        group=DENSE if row.get("deploymentType") == "DENSE" else "",
    )


def _future(name: str, row: Mapping[str, Any]) -> Reservation:
    """Nothing can be launched into it: its window is what is to be told."""
    window, wanted = row.get("timeWindow") or {}, row.get("specificSkuProperties") or {}
    state = str((row.get("status") or {}).get("procurementStatus") or "").lower()
    starts, ends = _seconds(window.get("startTime")), _seconds(window.get("endTime"))
    seconds = float((window.get("duration") or {}).get("seconds") or 0)
    return Reservation(
        id=name,
        instance_type=_type(wanted.get("instanceProperties") or {}),
        zone=last_part(str(row["zone"])),
        total=int(wanted.get("totalCount") or 0),
        free=0,
        state=state,
        starts=starts,
        ends=ends or (starts + seconds if starts and seconds else 0.0),
        kind="future reservation",
    )


def _type(properties: Mapping[str, Any]) -> str:
    devices = properties.get("guestAccelerators") or [{}]
    device = last_part(str(devices[0].get("acceleratorType") or ""))
    return type_of(str(properties.get("machineType") or ""), device, int(devices[0].get("acceleratorCount") or 0))


def _seconds(at: Any) -> float:
    return datetime.fromisoformat(str(at).replace("Z", "+00:00")).timestamp() if at else 0.0
