"""What is free on a node, as short tuples that packing can compare, split and group without objects.

A `Scale` fixes which resources matter (those that some shape asks for) and their order. Whole GPUs and shares of a GPU
are kept apart: a task that asks for 0.6 GPU occupies one device, and two devices with 0.4 left each never serve
another 0.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clusterctl.core.model import Shape, Work
from clusterctl.core.resources import UNIT, Resources

GPU = "GPU"
UNBOUNDED = 1 << 30  # copies of an empty request that fit anywhere

# (amounts in the scale's order, GPU counted in whole devices; what is left of devices that are partly used, ascending)
Room = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Need:
    """A shape's resources on a scale: `takes` are (index, units); `share` is part of one GPU (0 = whole or none)."""

    takes: tuple[tuple[int, int], ...]
    share: int = 0


@dataclass(frozen=True)
class Scale:
    """The resources that matter, sorted by name. `gpu` is the index of GPU, or -1 when nothing asks for one."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, shapes: Iterable[Shape]) -> Scale:
        """The resources that any of `shapes` asks for, sorted by name."""
        return cls(tuple(sorted({name for shape in shapes for name in shape.resources})))

    @property
    def gpu(self) -> int:
        """The place of GPU on the scale; -1 when nothing asks for one."""
        return self.names.index(GPU) if GPU in self.names else -1

    def need(self, resources: Resources) -> Need:
        """More than one GPU is rounded up to whole devices; less than one is a share of a single device."""
        takes: list[tuple[int, int]] = []
        share = 0
        for index, name in enumerate(self.names):
            amount = resources.units.get(name, 0)
            if name == GPU and 0 < amount < UNIT:
                share = amount
            elif name == GPU:
                amount = -(-amount // UNIT) * UNIT
                takes.append((index, amount))
            else:
                takes.append((index, amount))
        return Need(tuple((i, a) for i, a in takes if a), share)

    def room(self, free: Resources) -> Room:
        """The room of `free`; a fraction of GPU in it is one device with that much left."""
        units = free.units
        amounts = tuple(units.get(name, 0) for name in self.names)
        gpu = self.gpu
        if gpu < 0 or amounts[gpu] % UNIT == 0:
            return amounts, ()
        rest = amounts[gpu] % UNIT
        return (*amounts[:gpu], amounts[gpu] - rest, *amounts[gpu + 1 :]), (rest,)

    def room_beside(self, total: Resources, free: Resources, work: Sequence[Work]) -> Room:
        """The room on a node with `work` on it: shares of GPUs are laid onto devices where the books allow it."""
        gpu = self.gpu
        room = self.room(free)
        shares = [a for w in work if 0 < (a := w.resources.units.get(GPU, 0)) < UNIT]
        if gpu < 0 or not shares or total.units.get(GPU, 0) % UNIT:
            return room
        whole = sum(-(-a // UNIT) * UNIT for w in work if (a := w.resources.units.get(GPU, 0)) >= UNIT)
        laid: Room = ((total.units.get(GPU, 0) - whole,), ())
        for share in sorted(shares, reverse=True):
            need = Need((), share)
            if not copies(laid, need, 0):
                return room
            laid = take(laid, need, 1, 0)
        if laid[0][0] + sum(laid[1]) != free.units.get(GPU, 0):
            return room
        return (*room[0][:gpu], laid[0][0], *room[0][gpu + 1 :]), laid[1]


def copies(room: Room, need: Need, gpu: int) -> int:
    """How many copies of `need` fit into `room` (UNBOUNDED for a need of nothing)."""
    amounts, shares = room
    most = UNBOUNDED
    for index, amount in need.takes:
        n = amounts[index] // amount
        if n < most:
            if n == 0:
                return 0
            most = n
    if need.share:
        n = sum(left // need.share for left in shares) + amounts[gpu] // UNIT * (UNIT // need.share)
        most = min(most, n)
    return most


def take(room: Room, need: Need, n: int, gpu: int) -> Room:
    """The room left after `n` copies that fit. Shares go to the fullest device that can hold them."""
    amounts, shares = room
    left = list(amounts)
    for index, amount in need.takes:
        left[index] -= amount * n
    if not need.share:
        return tuple(left), shares
    devices = list(shares)
    for position, free in enumerate(devices):
        fit = min(n, free // need.share)
        devices[position] = free - fit * need.share
        n -= fit
    while n > 0:
        left[gpu] -= UNIT
        fit = min(n, UNIT // need.share)
        devices.append(UNIT - fit * need.share)
        n -= fit
    return tuple(left), tuple(sorted(d for d in devices if d))
