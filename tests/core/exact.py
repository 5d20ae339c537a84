"""The optimal price for a small world, by an exact solver: every way to fill a node is a column, every shape a row."""

from __future__ import annotations

import random

import highspy
import numpy as np

from clusterctl.core.model import Demand, Offer, Shape
from clusterctl.core.offers import waits_for_gpu
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.rooms import Room, Scale, copies, take


def optimal_price(demand: tuple[Demand, ...], offers: tuple[Offer, ...]) -> float:
    """The least $/h that serves every demand from nothing. GPU nodes serve other work only where the planner, too, may
    use them so: when no offer without GPU can hold it, or on a node whose GPUs are all in use."""
    wanted = {shape: sum(d.count * n for d in demand for s, n in d.bundles if s == shape) for shape in _shapes(demand)}
    shapes = sorted(wanted)
    scale = Scale.of(shapes)
    columns: dict[tuple[int, ...], float] = {}
    for offer in offers:
        for pattern in _patterns(offer, shapes, wanted, scale, offers):
            columns[pattern] = min(offer.price, columns.get(pattern, offer.price))
    return _solve(columns, [wanted[shape] for shape in shapes])


def _shapes(demand: tuple[Demand, ...]) -> set[Shape]:
    return {shape for d in demand for shape, _ in d.bundles}


def _patterns(offer: Offer, shapes: list[Shape], wanted: dict[Shape, int], scale: Scale, offers: tuple[Offer, ...]):
    has_gpu = "GPU" in offer.resources
    kept_off = {s for s in shapes if has_gpu and not waits_for_gpu(s) and any(_plain(o, s, scale) for o in offers)}
    found: list[tuple[int, ...]] = []

    def extend(index: int, room: Room, counts: tuple[int, ...]) -> None:
        if index == len(shapes):
            gpu_left = scale.gpu >= 0 and (room[0][scale.gpu] > 0 or bool(room[1]))
            strangers = any(n and s in kept_off for n, s in zip(counts, shapes, strict=True))
            if any(counts) and not (strangers and (gpu_left or scale.gpu < 0)):
                found.append(counts)
            return
        need = scale.need(shapes[index].resources)
        for n in range(min(copies(room, need, scale.gpu), wanted[shapes[index]]) + 1):
            extend(index + 1, take(room, need, n, scale.gpu) if n else room, (*counts, n))

    extend(0, scale.room(offer.resources), ())
    return found


def _plain(offer: Offer, shape: Shape, scale: Scale) -> bool:
    fits = copies(scale.room(offer.resources), scale.need(shape.resources), scale.gpu)
    return "GPU" not in offer.resources and fits > 0


def _solve(columns: dict[tuple[int, ...], float], wanted: list[int]) -> float:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    rows = [highs.addRow(float(n), float(n), 0, np.array([], dtype=np.int32), np.array([])) for n in wanted]
    assert len(rows) == len(wanted)
    for number, (pattern, price) in enumerate(sorted(columns.items())):
        used = [i for i, n in enumerate(pattern) if n]
        highs.addCol(
            price,
            0.0,
            highspy.kHighsInf,
            len(used),
            np.array(used, dtype=np.int32),
            np.array([float(pattern[i]) for i in used]),
        )
        highs.changeColIntegrality(number, highspy.HighsVarType.kInteger)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal, highs.getModelStatus()
    return highs.getInfo().objective_function_value


def random_market(seed: int, *, most: int = 12, gpus: bool = True) -> tuple[tuple[Demand, ...], tuple[Offer, ...]]:
    """Offers priced about as clouds do (linear in size, some noise, some families), and a handful of demands that each
    fit on at least one of them."""
    rng = random.Random(seed)
    offers: list[Offer] = []
    for family in range(rng.randrange(1, 4)):
        with_gpu = gpus and rng.random() < 0.4
        memory, base = rng.choice([2, 4, 8]), rng.uniform(0.03, 0.06)
        for size in rng.sample([1, 2, 4, 8, 16, 32], rng.randrange(1, 4)):
            bag = {"CPU": size, "memory": size * memory * 2**30}
            price = size * base * rng.uniform(0.9, 1.1) + size * memory * 0.004
            if with_gpu:
                bag["GPU"] = max(1, size // 8)
                price += bag["GPU"] * rng.uniform(0.5, 2.0)
            pool = "gpu" if with_gpu else "cpu"
            offers.append(Offer(pool, f"f{family}.{size}", "on-demand", "a", round(price, 4), Resources.of(bag)))
    demand: list[Demand] = []
    total = rng.randrange(1, most + 1)
    for number in range(rng.randrange(1, 5)):
        of = rng.choice(offers).resources.to_dict()
        want = {"CPU": max(1, int(of["CPU"] * rng.choice([0.1, 0.25, 0.4, 0.5, 0.7, 1])))}
        want["memory"] = int(of["memory"] * rng.choice([0, 0.1, 0.3, 0.5, 0.8]))
        if "GPU" in of and rng.random() < 0.8:
            want["GPU"] = rng.choice([g for g in (0.25, 0.5, 1, 2, 4) if g <= of["GPU"]])
        count = max(1, total // (number + 1))
        demand.append(Demand(f"d{number}", "job", ((Shape(Resources.of(want)), 1),), count))
    return tuple(demand), tuple(offers)
