"""Which queued work starts where, now: on ready nodes only, in the order of the queue.

A request starts whole or not at all. One that does not fit does not hold up those behind it, until it has waited
STARVE_AFTER seconds: from then on the nodes that it could use once they are empty are reserved for it (the emptiest
first, as many as it needs), and requests behind it go elsewhere. Of equal requests only the oldest reserves nodes, and only
the first few kinds that starve do, so that a long queue cannot freeze a cluster. A request that no set of present nodes
could hold reserves nothing: buying is the planner's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from clusterctl.core.model import NodeState, NodeView, Reason, Shape, Strategy
from clusterctl.core.scheduling.rooms import UNBOUNDED, Need, Room, Scale, copies, take
from clusterctl.core.scheduling.selectors import NEEDS_ENGINE, Kind, accepts, kind_of_node, selector_keys

STARVE_AFTER = 600.0  # seconds of waiting from which on nodes are reserved for a request
MOST_RESERVATIONS = 4  # requests that nodes are reserved for at the same time

Bundles = tuple[tuple[Shape, int], ...]


@dataclass(frozen=True)
class Request:
    """One job's attempt that wants to start: `bundles` as in Demand, ranks counted through them in order.

    `gang` says that there are several ranks which belong together; a request starts whole in either case.
    `since` is when it began to wait.
    """

    id: str
    bundles: Bundles
    gang: bool = False
    strategy: Strategy = ""
    one_zone: bool = False
    since: float = 0.0


@dataclass(frozen=True)
class Placement:
    """`placed`: (request id, node ids by rank). `waiting`: (request id, why not now). `reserved`: (request id, ids of the nodes
    where nothing behind it starts). All in queue order."""

    placed: tuple[tuple[str, tuple[str, ...]], ...] = ()
    waiting: tuple[tuple[str, Reason], ...] = ()
    reserved: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass
class _Cursor:
    """Nodes that may hold a shape, best first. Nodes before `at` are too full for it: rooms only shrink."""

    nodes: list[int]
    need: Need
    at: int = 0


@dataclass
class _Board:
    """Nodes by number. `rooms` is what is free on each; `closed` are reserved for a starving request.

    `order` holds runs of equal nodes, in the order in which they fill up.
    """

    ids: list[str]
    kinds: list[Kind]
    distinct_kinds: frozenset[Kind]
    rooms: list[Room]
    first_rooms: tuple[Room, ...]
    full_rooms: list[Room]
    has_gpu: list[bool]
    scale: Scale
    gpu: int
    closed: set[int] = field(default_factory=set[int])
    cursors: dict[tuple[Shape, str | None], _Cursor] = field(default_factory=dict[tuple[Shape, str | None], _Cursor])
    order: list[list[int]] = field(default_factory=list[list[int]])

    def cursor(self, shape: Shape, zone: str | None) -> _Cursor:
        """One for each shape and zone, None for any zone; it is kept, and goes on where it got to."""
        found = self.cursors.get((shape, zone))
        if found is None:
            need = self.scale.need(shape.resources)
            allowed = {kind for kind in self.distinct_kinds if accepts(kind, shape) and zone in (None, kind.zone)}
            nodes: list[int] = []
            for run in self.order:
                if self.kinds[run[0]] in allowed and copies(self.first_rooms[run[0]], need, self.gpu):
                    nodes.extend(run)
            found = self.cursors[shape, zone] = _Cursor(nodes, need)
        return found


def starves_at(since: float) -> float:
    """When what waits since `since` begins to reserve nodes."""
    return since + STARVE_AFTER


def place(
    requests: Sequence[Request],
    nodes: Sequence[NodeView],
    *,
    now: float | None = None,
    heartbeat_timeout: float = 30.0,
    enough: int | None = None,
) -> Placement:
    """Starts what fits, in order. Without `now` nobody starves and every node counts as alive. Once `enough` ranks are placed
    nobody behind is looked at."""
    shapes = {shape for request in requests for shape, _ in request.bundles}
    usable = [view for view in nodes if takes_work(view, now, heartbeat_timeout)]
    board = _board(usable, shapes)
    placed: list[tuple[str, tuple[str, ...]]] = []
    waiting: list[tuple[str, Reason]] = []
    reserved: dict[tuple[Bundles, Strategy, bool], tuple[str, tuple[str, ...]]] = {}
    refused: dict[tuple[Bundles, Strategy, bool], Reason] = {}  # rooms only shrink: what failed once fails again
    ranks = 0
    for request in requests:
        if enough is not None and ranks >= enough:
            break
        key = (request.bundles, request.strategy, request.one_zone)
        reason = refused.get(key)
        if reason is None:
            found = _place_one(board, request)
            if found is not None:
                placed.append((request.id, tuple(board.ids[i] for i in found)))
                ranks += len(found)
                continue
            reason = refused[key] = _why_not(board, request)
        starves = now is not None and now >= starves_at(request.since)
        if (
            starves
            and key not in reserved
            and len(reserved) < MOST_RESERVATIONS
            and (held := _reserve_for(board, request))
        ):
            reserved[key] = (request.id, tuple(sorted(board.ids[i] for i in held)))
            reason = Reason("starving", f"{reason.text}; nodes are being kept free for it", reason.fix)
        waiting.append((request.id, reason))
    return Placement(tuple(placed), tuple(waiting), tuple(reserved.values()))


def takes_work(view: NodeView, now: float | None, heartbeat_timeout: float = 30.0) -> bool:
    """Whether work may start there: ready, not draining, not announced to go, and heard of within `heartbeat_timeout` seconds.
    Without `now` silence is not looked at."""
    silent = now is not None and view.heartbeat is not None and now - view.heartbeat > heartbeat_timeout
    return view.node.state is NodeState.READY and view.drain == "" and view.preempt_at is None and not silent


def _board(views: Sequence[NodeView], shapes: set[Shape]) -> _Board:
    """Nodes in the order in which they fill up: those without GPUs first, then the tightest, then by id."""
    scale = Scale.of(shapes)
    keys = selector_keys(shapes)
    most = [max((v.total.units.get(name, 0) for v in views), default=0) or 1 for name in scale.names]
    kinds = [kind_of_node(v, keys) for v in views]
    rooms = [scale.room_beside(v.total, v.free, v.work) for v in views]
    board = _Board(
        ids=[v.node.id for v in views],
        kinds=kinds,
        distinct_kinds=frozenset(kinds),
        rooms=rooms,
        first_rooms=tuple(rooms),
        full_rooms=[scale.room(v.total) for v in views],
        has_gpu=["GPU" in v.total.units for v in views],
        scale=scale,
        gpu=scale.gpu,
    )
    runs: dict[tuple[bool, Room, Kind], list[int]] = {}
    for i in sorted(range(len(views)), key=board.ids.__getitem__):
        runs.setdefault((board.has_gpu[i], rooms[i], board.kinds[i]), []).append(i)

    def fills_up(run: tuple[tuple[bool, Room, Kind], list[int]]) -> tuple[bool, float, str]:
        (has_gpu, room, _), members = run
        return has_gpu, sum(a / m for a, m in zip(room[0], most, strict=True)), board.ids[members[0]]

    board.order = [members for _, members in sorted(runs.items(), key=fills_up)]
    return board


def _place_one(board: _Board, request: Request) -> list[int] | None:
    """Node numbers by rank; the rooms are taken. None, and nothing taken, when it does not fit whole."""
    if not request.one_zone:
        return _place_in(board, request, None)
    for zone in sorted({kind.zone for kind in board.kinds}):
        found = _place_in(board, request, zone)
        if found is not None:
            return found
    return None


def _place_in(board: _Board, request: Request, zone: str | None) -> list[int] | None:
    if request.strategy == "STRICT_PACK":
        return _place_on_one_node(board, request.bundles, zone)
    if request.strategy == "STRICT_SPREAD":
        return _place_filling(board, request.bundles, zone, distinct=True)
    if request.strategy == "SPREAD":
        spread = _place_filling(board, request.bundles, zone, distinct=True)
        return spread if spread is not None else _place_evenly(board, request.bundles, zone)
    return _place_filling(board, request.bundles, zone, distinct=False)


def _place_filling(board: _Board, bundles: Bundles, zone: str | None, *, distinct: bool) -> list[int] | None:
    """Fills one node after the other; with `distinct`, at most one rank on each."""
    chosen: list[int] = []
    undo: list[tuple[int, Room]] = []
    moved: list[tuple[_Cursor, int]] = []
    used: set[int] = set()
    rooms, closed, gpu = board.rooms, board.closed, board.gpu
    for shape, count in bundles:
        cursor = board.cursor(shape, zone)
        nodes, need = cursor.nodes, cursor.need
        moved.append((cursor, cursor.at))
        at = cursor.at
        while count:
            if at >= len(nodes):
                for node, room in reversed(undo):
                    rooms[node] = room
                for cursor_moved, before in reversed(moved):
                    cursor_moved.at = before
                return None
            node = nodes[at]
            fit = 0 if node in closed or node in used else copies(rooms[node], need, gpu)
            if fit:
                fit = 1 if distinct else min(fit, count)
                undo.append((node, rooms[node]))
                rooms[node] = take(rooms[node], need, fit, gpu)
                chosen.extend([node] * fit)
                count -= fit
                if distinct:
                    used.add(node)
            if count:
                at += 1
        if not distinct:
            cursor.at = at
    return chosen


def _place_evenly(board: _Board, bundles: Bundles, zone: str | None) -> list[int] | None:
    """Deals ranks out to nodes in turns, one each time round."""
    chosen: list[int] = []
    before: dict[int, Room] = {}
    for shape, count in bundles:
        cursor = board.cursor(shape, zone)
        able = [node for node in cursor.nodes[cursor.at :] if node not in board.closed]
        while count and able:
            able = [node for node in able if copies(board.rooms[node], cursor.need, board.gpu)]
            for node in able[:count]:
                before.setdefault(node, board.rooms[node])
                board.rooms[node] = take(board.rooms[node], cursor.need, 1, board.gpu)
                chosen.append(node)
            count -= min(count, len(able))
        if count:
            for node, room in before.items():
                board.rooms[node] = room
            return None
    return chosen


def _place_on_one_node(board: _Board, bundles: Bundles, zone: str | None) -> list[int] | None:
    cursors = [(board.cursor(shape, zone), count) for shape, count in bundles]
    common = set(cursors[0][0].nodes).intersection(*(cursor.nodes for cursor, _ in cursors))
    for node in cursors[0][0].nodes:
        if node not in common or node in board.closed:
            continue
        room = board.rooms[node]
        for cursor, count in cursors:
            if copies(room, cursor.need, board.gpu) < count:
                break
            room = take(room, cursor.need, count, board.gpu)
        else:
            board.rooms[node] = room
            return [node] * sum(count for _, count in bundles)
    return None


def _reserve_for(board: _Board, request: Request) -> set[int]:
    """Closes the nodes that `request` would use if they were empty; none when even all of them could not hold it."""
    numbers = [i for run in board.order for i in run if i not in board.closed]
    emptiest = sorted(numbers, key=lambda i: (-sum(board.rooms[i][0]), board.ids[i]))
    dream = replace(
        board,
        rooms=list(board.full_rooms),
        first_rooms=tuple(board.full_rooms),
        cursors={},
        order=[[i] for i in emptiest],
    )
    found = set(_place_one(dream, request) or ())
    board.closed.update(found)
    return found


def _why_not(board: _Board, request: Request) -> Reason:
    """The nearest obstacle, as the ready nodes stand now."""
    for shape, count in request.bundles:
        what = describe(shape)
        if not any(accepts(kind, shape) for kind in board.distinct_kinds):
            return Reason("no_ready_node", f"no ready node may run {what}")
        cursor = board.cursor(shape, None)  # nodes that it has passed have no room any more
        fit = min(sum(copies(board.rooms[i], cursor.need, board.gpu) for i in cursor.nodes[cursor.at :]), UNBOUNDED)
        if fit < count:
            if not any(copies(room, cursor.need, board.gpu) for room in dict.fromkeys(board.full_rooms)):
                return Reason("too_large", f"{what} is more than any ready node has")
            wanted = what if count == 1 else f"{count} times {what}"
            return Reason("no_room", f"waiting for {wanted}: ready nodes have room for {fit} now")
    together = {"STRICT_PACK": "on one node", "STRICT_SPREAD": "on as many nodes"}.get(request.strategy, "at once")
    place_of = " in one zone" if request.one_zone else ""
    return Reason(
        "no_room", f"waiting for all its parts to fit {together}{place_of}: ready nodes have room for some only"
    )


def describe(shape: Shape) -> str:
    """A shape in words: "1 x GPU (L4), 8 x CPU in pool gpu"."""
    text = str(shape.resources) if shape.resources else "a place on any node"
    if shape.gpu_type:
        text += f" ({shape.gpu_type})"
    if shape.pool:
        text += f" in pool {shape.pool}"
    wanted = ["the engine" if pair == NEEDS_ENGINE else "=".join(pair) for pair in shape.selectors]
    return f"{text} with {', '.join(wanted)}" if wanted else text
