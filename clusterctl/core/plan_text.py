"""A plan as text, one line per action and wait: for golden files and for people."""

from __future__ import annotations

from clusterctl.core.model import Action, Drain, Launch, Mark, Plan, Start, Stop, Terminate, Wait


def render_plan(plan: Plan) -> str:
    """Lines that start with `+` launch or start, `-` end or stop, `~` drain or call back, `!` mark, `?` wait; then the price."""
    lines = [render_action(action) for action in plan.actions]
    lines += [render_wait(wait) for wait in plan.waits]
    lines.append(f"= {plan.price_before:.4f} -> {plan.price_after:.4f} $/h")
    if plan.wake_at is not None:
        lines.append(f"@ {plan.wake_at:g}")
    return "\n".join(lines) + "\n"


def render_action(action: Action) -> str:
    """One line: a sign (+ launch or start, - stop or end, ! mark, ~ drain), the node, and why."""
    why = f"[{action.reason.code}] {action.reason.text}"
    if isinstance(action, Launch):
        return f"+ {action.node_id} {action.offer.key} {action.offer.price:.4f} $/h {why}"
    if isinstance(action, Start):
        return f"+ {action.node_id} start {action.instance_id} {action.offer.price:.4f} $/h {why}"
    if isinstance(action, Stop):
        return f"- {action.node_id} stop {action.instance_id} {why}"
    if isinstance(action, Terminate):
        return f"- {action.node_id or '(no record)'} {action.instance_id or '(no instance)'} {why}"
    if isinstance(action, Mark):
        return f"! {action.node_id} {action.event}{f' {action.instance_id}' if action.instance_id else ''} {why}"
    if isinstance(action, Drain):
        until = f" until {action.deadline:g}" if action.deadline is not None else ""
        return f"~ {action.node_id} drain{until} {why}"
    return f"~ {action.node_id} undrain {why}"


def render_wait(wait: Wait) -> str:
    """One line: the demand, how much of it waits, when it is served (seconds, if known), and why it waits."""
    eta = f" eta {wait.eta:g}" if wait.eta is not None else ""
    fix = f" ({wait.reason.fix})" if wait.reason.fix else ""
    return f"? {wait.demand_id} x{wait.count}{eta} [{wait.reason.code}] {wait.reason.text}{fix}"
