"""What the console of a machine said that came up and never joined: the only witness of a boot that went wrong."""

from __future__ import annotations

import logging

from clusterctl_providers.base import HasConsole, Provider

log = logging.getLogger(__name__)

OVERDUE = frozenset({"booting_too_long", "joining_too_long"})  # codes of nodes that run and did not join in time
AT_ONCE = 5  # consoles read in one turn: each is a call, and nodes that fail together say the same
_LINES, _LENGTH = 3, 240


def console_tail(provider: Provider, instance_id: str) -> str:
    """`; its console ends: "..."`, "" where the provider has no console or does not answer."""
    if not instance_id or not isinstance(provider, HasConsole):
        return ""
    try:
        text = provider.console_log(instance_id)
    except Exception as error:  # it is a help only: the node fails all the same
        log.info("the console of %s was not to be had: %s", instance_id, error)
        return ""
    text = "".join(c if c.isprintable() else "\n" if c == "\n" else " " for c in text)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return "; its console is empty: the image may not boot, or its boot takes longer"
    return f'; its console ends: "{" | ".join(lines[-_LINES:])[-_LENGTH:]}"'
