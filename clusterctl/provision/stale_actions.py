"""What of a plan must not be carried out any more: it was made for a world that has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clusterctl.core.lifecycle import EVENTS
from clusterctl.core.model import Mark, Node, Terminate

_STEPS = frozenset({"requested", "running"})  # of a boot; between plan and apply a create or the agent may be quicker


def refusal_of_end(action: Terminate, node: Node | None, nodes: Iterable[Node], sightings: Mapping[str, int]) -> str:
    """Why an end is refused, "" when it is not: it was planned for another generation, or for what is not ours to end."""
    if node and node.instance_id and action.instance_id not in ("", node.instance_id):
        return f"{node.id} is instance {node.instance_id} by now, not {action.instance_id}: nothing was ended"
    if action.node_id:
        return ""
    owner = next((n for n in nodes if n.instance_id == action.instance_id), None)
    if owner:
        return f"{action.instance_id} belongs to {owner.id}, the plan took it for one without owner: nothing was ended"
    if action.instance_id not in sightings:
        return f"{action.instance_id} was not seen with this cluster's uid: nothing was ended"
    return ""


def refusal_of_mark(action: Mark, known: Node | None) -> str:
    """Why a mark is refused, "" when it is not."""
    if known and known.instance_id and action.instance_id not in ("", known.instance_id):
        return f"{known.id} is instance {known.instance_id} by now, the plan meant {action.instance_id}"
    if known and action.event in _STEPS and known.state not in EVENTS[action.event][0]:
        return f"{known.id} is {known.state.value} by now, which is past {action.event!r}"
    return ""
